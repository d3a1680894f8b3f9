import type { Readable } from 'node:stream';
import { handOver } from '../../../large-bytes.ts';
import type { HeaderList } from '../../http-exchange.ts';
import { type ByteSource, type Readiness, Signal } from '../io.ts';
import { type ErrorCode, HttpFailure } from './error-code.ts';
import type { IncomingContent } from './incoming-body.ts';

/**
 * The body of an inbound request. Back-pressure is the stream's own: it stops reading from the client at its
 * high-water mark, and is not touched at all before the guest asks for bytes.
 */
export class ReadableContent implements IncomingContent {
  readonly source: ByteSource;
  readonly ended: Readiness;
  readonly #readable: Readable;
  readonly #trailers: () => HeaderList;
  readonly #signal = new Signal();
  readonly #notify = (): void => this.#signal.notify();
  /** What is left of the piece that the guest has last been given a part of. */
  #rest: Uint8Array | undefined;
  #use: 'untouched' | 'reading' | 'discarding' | 'abandoned' = 'untouched';

  constructor(readable: Readable, trailers: () => HeaderList) {
    this.#readable = readable;
    this.#trailers = trailers;
    this.source = {
      readiness: {
        isReady: () =>
          this.#rest !== undefined || this.#readable.readableLength > 0 || this.end() !== undefined,
        subscribe: (callback) => this.#subscribe(callback),
      },
      read: (max) => this.#read(max),
      close: () => {},
    };
    this.ended = {
      isReady: () => this.end() !== undefined,
      subscribe: (callback) => this.#signal.subscribe(callback),
    };
  }

  end(): { readonly trailers: HeaderList } | { readonly code: ErrorCode } | undefined {
    if (this.#rest !== undefined) return undefined;
    if (this.#readable.readableEnded) return { trailers: this.#trailers() };
    if (this.#readable.destroyed || this.#use === 'abandoned')
      return { code: { tag: 'connection-terminated' } };
    return undefined;
  }

  discard(): void {
    if (this.#use === 'discarding' || this.#use === 'abandoned') return;
    this.#listen();
    this.#use = 'discarding';
    this.#rest = undefined;
    this.#readable.off('readable', this.#notify);
    this.#readable.resume();
  }

  abandon(): void {
    this.#use = 'abandoned';
    this.#rest = undefined;
    for (const event of ['readable', 'end', 'close']) this.#readable.off(event, this.#notify);
    this.#notify();
  }

  #read(max: number): Uint8Array | 'end' | undefined {
    if (this.#rest !== undefined) return this.#part(this.#rest, max);
    const available = this.#readable.readableLength;
    if (available > 0 && this.#use !== 'abandoned') {
      this.#listen();
      // All there is, which in most cases is one piece as it came: Node would put together a given length from several.
      const bytes: unknown = this.#readable.read(available);
      // Node's parser copies each piece out of what the socket has read into, and keeps nothing of it.
      if (bytes instanceof Uint8Array) return this.#part(handOver(bytes), max);
    }
    const end = this.end();
    if (end === undefined) this.#ask();
    else if ('code' in end) throw new HttpFailure(end.code);
    else return 'end';
    return undefined;
  }

  #part(bytes: Uint8Array, max: number): Uint8Array {
    const isLast = bytes.length <= max;
    this.#rest = isLast ? undefined : bytes.subarray(max);
    return isLast ? bytes : bytes.subarray(0, max);
  }

  #subscribe(callback: () => void): () => void {
    const cancel = this.#signal.subscribe(callback);
    this.#ask();
    return cancel;
  }

  /** Makes an empty stream fetch more, or notice that it has ended. */
  #ask(): void {
    this.#listen();
    if (this.#use === 'reading' && this.#readable.readableLength === 0) this.#readable.read(0);
  }

  #listen(): void {
    if (this.#use !== 'untouched') return;
    this.#use = 'reading';
    for (const event of ['readable', 'end', 'close']) this.#readable.on(event, this.#notify);
    // 'close' follows; without a listener the error would end the process.
    this.#readable.on('error', () => {});
  }
}
