import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { Signal } from '../io.ts';
import type { BodyTarget } from './body-channel.ts';
import { type ErrorCode, HttpFailure } from './error-code.ts';

/** Bytes of a request body that wait for the socket before the guest has to wait. */
export const requestBodyHighWaterMark = 64 * 1024;

/** The body of an outbound request: filled by the guest, emptied by the client at the socket's pace. */
export class RequestBody implements BodyTarget, AsyncIterable<Uint8Array> {
  readonly #scope: InstanceScope;
  readonly #signal = new Signal();
  readonly #arrival = new Signal();
  #queue: Uint8Array[] = [];
  #bytes = 0;
  #state: 'open' | 'ended' | 'closed' = 'open';
  #failure: HttpFailure | undefined;
  readonly #onAbort: (code: ErrorCode) => void;

  /** `onAbort` hears that the guest will not complete the body. */
  constructor(scope: InstanceScope, onAbort: (code: ErrorCode) => void) {
    this.#scope = scope;
    this.#onAbort = onAbort;
  }

  capacity(): number | 'closed' {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state === 'closed') return 'closed';
    return Math.max(0, requestBodyHighWaterMark - this.#bytes);
  }

  write(bytes: Uint8Array): void {
    if (this.#state !== 'open') return;
    this.#scope.charge(bytes.length);
    this.#queue.push(bytes);
    this.#bytes += bytes.length;
    this.#arrival.notify();
  }

  isFlushed(): boolean {
    return this.#bytes === 0;
  }

  onDrain(callback: () => void): () => void {
    return this.#signal.subscribe(callback);
  }

  end(_trailers: HeaderList | undefined): void {
    if (this.#state === 'open') this.#state = 'ended';
    this.#arrival.notify();
  }

  abort(code: ErrorCode): void {
    this.close(code);
    this.#onAbort(code);
  }

  /** Nobody takes the body any more: because of `code`, or because the server has answered without reading it. */
  close(code?: ErrorCode): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    if (code !== undefined) this.#failure = new HttpFailure(code);
    this.#scope.refund(this.#bytes);
    this.#queue = [];
    this.#bytes = 0;
    this.#arrival.notify();
    this.#signal.notify();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    try {
      for (;;) {
        const chunk = this.#queue.shift();
        if (chunk !== undefined) {
          this.#bytes -= chunk.length;
          this.#scope.refund(chunk.length);
          this.#signal.notify();
          yield chunk;
        } else if (this.#failure !== undefined) {
          throw this.#failure;
        } else if (this.#state !== 'open') {
          return;
        } else {
          await new Promise<void>((resolve) => this.#arrival.subscribe(resolve));
        }
      }
    } finally {
      this.close();
    }
  }
}
