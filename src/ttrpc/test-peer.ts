/** What the tests of this folder share: a peer that speaks raw frames, a codec, a place for sockets. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import protobuf from 'protobufjs/minimal.js';
import {
  decodeResponse,
  encodeRequest,
  type Metadata,
  type RequestEnvelope,
  type ResponseEnvelope,
} from './envelope.ts';
import { encodeFrame, type FrameEvent, FrameParser, FrameType } from './frame.ts';
import type { MethodCodec } from './service.ts';

/** Codec of `google.protobuf.StringValue`, the message all test methods take and give. */
export const textCodec: MethodCodec<string, string> = {
  requestSerialize: encodeText,
  requestDeserialize: decodeText,
  responseSerialize: encodeText,
  responseDeserialize: decodeText,
};

export function encodeText(text: string): Uint8Array {
  const writer = protobuf.Writer.create();
  return text === '' ? writer.finish() : writer.uint32(0x0a).string(text).finish();
}

export function decodeText(bytes: Uint8Array): string {
  const reader = protobuf.Reader.create(bytes);
  let text = '';
  while (reader.pos < reader.len) {
    const fieldTag = reader.uint32();
    if (fieldTag === 0x0a) text = reader.string();
    else reader.skipType(fieldTag & 7);
  }
  return text;
}

/** A socket path in a directory that goes away with the test. */
export function socketPath(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'ttrpc-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 's.sock');
}

/** A request envelope with a text payload. */
export function textRequest(
  service: string,
  method: string,
  text = '',
  options: { readonly timeoutNano?: bigint; readonly metadata?: Metadata } = {},
): RequestEnvelope {
  const { timeoutNano = 0n, metadata = new Map() } = options;
  return { service, method, payload: encodeText(text), timeoutNano, metadata };
}

/** The frame of a request envelope. */
export function requestFrame(streamId: number, request: RequestEnvelope, flags = 0): Buffer {
  return encodeFrame(FrameType.Request, streamId, encodeRequest(request), flags);
}

/** A reply as the raw peer sees it. */
export type RawReply = ResponseEnvelope & { readonly streamId: number };

/** One end of a socket that sends any bytes and takes frames apart. */
export class RawPeer {
  readonly socket: Socket;
  readonly ended: Promise<void>;
  readonly #events: FrameEvent[] = [];
  #wake: () => void = () => {};
  #over = false;

  constructor(socket: Socket) {
    this.socket = socket;
    const parser = new FrameParser(0xffff_ffff);
    socket.on('data', (chunk: Buffer) => {
      this.#events.push(...parser.push(chunk));
      this.#wake();
    });
    socket.on('error', () => {});
    this.ended = new Promise((resolve) => {
      socket.on('close', () => {
        this.#over = true;
        this.#wake();
        resolve();
      });
    });
  }

  static async connect(t: TestContext, path: string): Promise<RawPeer> {
    const socket = createConnection({ path });
    const peer = new RawPeer(socket);
    t.after(() => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    return peer;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next frame; rejects if the connection ends before it comes. */
  async frame(): Promise<Extract<FrameEvent, { kind: 'frame' }>> {
    for (;;) {
      const event = this.#events.shift();
      if (event?.kind === 'frame') return event;
      if (this.#over) throw new Error('the connection is over');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The next frame as a reply. */
  async reply(): Promise<RawReply> {
    const { header, body } = await this.frame();
    return { ...decodeResponse(body), streamId: header.streamId };
  }
}

/** Random bytes and numbers from a seed, so that a failure can be repeated. */
export function seededRandom(seed: number): { below(limit: number): number; bytes(length: number): Buffer } {
  let state = seed >>> 0;
  const next = (): number => {
    // xorshift32
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  const below = (limit: number): number => next() % limit;
  return { below, bytes: (length) => Buffer.from(Array.from({ length }, () => below(256))) };
}
