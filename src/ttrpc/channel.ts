/** One socket that carries frames both ways. */
import type { Socket } from 'node:net';
import { encodeFrame, type FrameEvent, FrameParser } from './frame.ts';

export type ChannelOptions = {
  /** Longest body taken from the peer, bytes. */
  readonly maxFrameBytes: number;
  /**
   * Reading stops while more than this is waiting to be sent, bytes, and goes on once the socket has drained. At most
   * one side of a connection may do so: if both did, each could wait for the other to read.
   */
  readonly pauseReadsAboveBytes: number;
  readonly onFrame: (event: FrameEvent) => void;
  /** Called once, in the tick the channel is known to be over; the error is the socket's, if it had one. */
  readonly onClose: (error: Error | undefined) => void;
};

/** Frames over a socket. Every frame is one write, so frames never interleave. */
export class Channel {
  readonly #socket: Socket;
  readonly #options: ChannelOptions;
  #state: 'open' | 'ending' | 'closed' = 'open';

  constructor(socket: Socket, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    const parser = new FrameParser(options.maxFrameBytes);
    socket.on('data', (chunk: Buffer) => this.#receive(parser.push(chunk)));
    socket.on('drain', () => socket.resume());
    // A peer that has ended its side is gone: ttrpc knows no half-open connections.
    socket.on('end', () => this.destroy());
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
    if (socket.destroyed) process.nextTick(() => this.destroy());
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** Bytes written but not yet taken by the kernel. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Sends one frame; does nothing once the channel is ending. The caller has checked the body's length. */
  send(type: number, streamId: number, body: Uint8Array, flags = 0): void {
    if (this.#state !== 'open') return;
    const flushed = this.#socket.write(encodeFrame(type, streamId, body, flags));
    // Only a write that was not flushed promises the `drain` that resumes reading.
    if (!flushed && this.unsentBytes > this.#options.pauseReadsAboveBytes) this.#socket.pause();
  }

  /** Sends what is written, then closes. Nothing more is received. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ending';
    this.#socket.destroySoon();
  }

  /** Closes at once. */
  destroy(error?: Error): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#socket.destroy();
    this.#options.onClose(error);
  }

  #receive(events: readonly FrameEvent[]): void {
    for (const event of events) {
      if (this.#state !== 'open') return;
      this.#options.onFrame(event);
    }
  }
}
