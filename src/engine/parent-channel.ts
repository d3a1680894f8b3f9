import { writeSync } from 'node:fs';
import { receive, signalWhenReadable } from '../linux.ts';
import { encodeFrame, FrameReader } from './channel-frames.ts';
import type { EngineReply, EngineRequest } from './messages.ts';

/** The engine's end of the socket to its parent, as that numbers it; blocking, which only writing to it is. */
const parentFd = 3;

/** Bytes that are taken from the socket at a time. */
const pieceBytes = 65_536;

/** A timer that does nothing and keeps this thread's loop alive: signals do not. */
const longestTimeoutMs = 2 ** 31 - 1;

/**
 * An engine's end of the channel to its parent. The kernel tells by a signal that something has come: Node's own channel,
 * and a socket of Node's, take modules that nothing else in the main thread needs and 12 to 15 ms of every boot to load.
 */
export class ParentChannel {
  readonly #reader = new FrameReader();
  readonly #piece = Buffer.allocUnsafeSlow(pieceBytes);
  readonly #onRequest: (request: EngineRequest) => void;
  readonly #onEnd: () => void;

  /** `onEnd` is called when the parent has gone. */
  constructor(onRequest: (request: EngineRequest) => void, onEnd: () => void) {
    this.#onRequest = onRequest;
    this.#onEnd = onEnd;
    setInterval(() => {}, longestTimeoutMs);
    process.on('SIGIO', () => this.#read());
    signalWhenReadable(parentFd);
    this.#read();
  }

  /** Waits, with all of this thread, as long as the parent does not read. One that has gone is told of by `onEnd`. */
  send(reply: EngineReply): void {
    const frame = encodeFrame(reply);
    try {
      for (let sent = 0; sent < frame.length; ) sent += writeSync(parentFd, frame, sent);
    } catch {
      this.#onEnd();
    }
  }

  /** All that is there: signals that come while one is pending are one. */
  #read(): void {
    for (;;) {
      const count = receive(parentFd, this.#piece);
      if (count === undefined) return;
      if (count === 0) {
        this.#onEnd();
        return;
      }
      for (const message of this.#reader.push(this.#piece.subarray(0, count)))
        this.#onRequest(message as EngineRequest);
    }
  }
}
