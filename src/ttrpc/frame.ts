/**
 * The ttrpc frame: a header of ten bytes, big endian, then the body.
 *
 *    0               4               8       9       10
 *    +---------------+---------------+-------+-------+----------------
 *    |  body length  |   stream id   | type  | flags | body …
 *    +---------------+---------------+-------+-------+----------------
 */

/** Length of the header, bytes. */
export const frameHeaderBytes = 10;

/** Longest body the protocol allows, bytes. */
export const defaultMaxFrameBytes = 4 * 1024 * 1024;

/** Values of the type byte. */
export const FrameType = { Request: 1, Response: 2, Data: 3 } as const;

/** Bits of the flags byte: the sender is done, the sender will stream, the frame carries no message. */
export const FrameFlag = { RemoteClosed: 1, RemoteOpen: 2, NoData: 4 } as const;

/** A decoded header. `type` may be one we do not know. */
export type FrameHeader = {
  readonly bodyBytes: number;
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
};

/** What a parser reports: a whole frame, or one over the limit whose body has been swallowed. */
export type FrameEvent =
  | { readonly kind: 'frame'; readonly header: FrameHeader; readonly body: Buffer }
  | { readonly kind: 'oversized'; readonly header: FrameHeader };

/** Header and body in one buffer, so that a frame is one write. The caller has checked the body's length. */
export function encodeFrame(type: number, streamId: number, body: Uint8Array, flags = 0): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + body.length);
  frame.writeUInt32BE(body.length, 0);
  frame.writeUInt32BE(streamId, 4);
  frame.writeUInt8(type, 8);
  frame.writeUInt8(flags, 9);
  frame.set(body, frameHeaderBytes);
  return frame;
}

function decodeHeader(bytes: Buffer): FrameHeader {
  return {
    bodyBytes: bytes.readUInt32BE(0),
    streamId: bytes.readUInt32BE(4),
    type: bytes.readUInt8(8),
    flags: bytes.readUInt8(9),
  };
}

type ParserState =
  | { readonly at: 'header' }
  | { readonly at: 'body'; readonly header: FrameHeader; body: Buffer; filled: number }
  | { readonly at: 'discard'; readonly header: FrameHeader; remaining: number };

/** Least room reserved for a body that comes in pieces, bytes. */
const minBodyCapacity = 4096;

/**
 * Push parser: takes chunks as the socket gives them, however cut or merged, and reports frames in order. The bodies
 * are copies. It never reserves what a header announces, only about twice what has arrived.
 */
export class FrameParser {
  readonly #maxFrameBytes: number;
  readonly #header = Buffer.alloc(frameHeaderBytes);
  #headerFilled = 0;
  #state: ParserState = { at: 'header' };

  /** @param maxFrameBytes longest body taken, bytes; a longer one is swallowed and reported as `oversized` */
  constructor(maxFrameBytes = defaultMaxFrameBytes) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Memory held for an unfinished frame, bytes. */
  get bufferedBytes(): number {
    return this.#headerFilled + (this.#state.at === 'body' ? this.#state.body.length : 0);
  }

  /** Takes the next chunk and gives what it completes. */
  push(chunk: Buffer): FrameEvent[] {
    const events: FrameEvent[] = [];
    let rest = chunk;
    while (rest.length > 0) rest = rest.subarray(this.#take(rest, events));
    return events;
  }

  /** Consumes at least one byte of `bytes`, which is not empty, and gives how many. */
  #take(bytes: Buffer, events: FrameEvent[]): number {
    const state = this.#state;
    switch (state.at) {
      case 'header':
        return this.#takeHeader(bytes, events);
      case 'body': {
        const taken = Math.min(bytes.length, state.header.bodyBytes - state.filled);
        state.body = withCapacity(state.body, state.filled, state.filled + taken, state.header.bodyBytes);
        bytes.copy(state.body, state.filled, 0, taken);
        state.filled += taken;
        if (state.filled === state.header.bodyBytes) {
          events.push({ kind: 'frame', header: state.header, body: state.body });
          this.#state = { at: 'header' };
        }
        return taken;
      }
      case 'discard': {
        const taken = Math.min(bytes.length, state.remaining);
        state.remaining -= taken;
        if (state.remaining === 0) {
          events.push({ kind: 'oversized', header: state.header });
          this.#state = { at: 'header' };
        }
        return taken;
      }
      default:
        return state satisfies never;
    }
  }

  #takeHeader(bytes: Buffer, events: FrameEvent[]): number {
    const taken = Math.min(bytes.length, frameHeaderBytes - this.#headerFilled);
    bytes.copy(this.#header, this.#headerFilled, 0, taken);
    this.#headerFilled += taken;
    if (this.#headerFilled < frameHeaderBytes) return taken;
    this.#headerFilled = 0;
    const header = decodeHeader(this.#header);
    if (header.bodyBytes > this.#maxFrameBytes) {
      this.#state = { at: 'discard', header, remaining: header.bodyBytes };
    } else if (header.bodyBytes === 0) {
      events.push({ kind: 'frame', header, body: Buffer.alloc(0) });
    } else {
      this.#state = { at: 'body', header, body: Buffer.alloc(0), filled: 0 };
    }
    return taken;
  }
}

/** `body` itself, or a roomier copy of its first `filled` bytes that holds `needed`; never longer than `limit`. */
function withCapacity(body: Buffer, filled: number, needed: number, limit: number): Buffer {
  if (needed <= body.length) return body;
  const capacity = needed === limit ? limit : Math.max(2 * needed, minBodyCapacity);
  const grown = Buffer.allocUnsafe(Math.min(limit, capacity));
  body.copy(grown, 0, 0, filled);
  return grown;
}
