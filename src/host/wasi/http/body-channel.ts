import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { type ByteSink, type Readiness, Signal } from '../io.ts';
import { type ErrorCode, HttpFailure } from './error-code.ts';

/** Bytes of a body that are kept while the guest has not yet said what they belong to. */
export const maxUnattachedBytes = 1024 * 1024;

/** Where a body goes once its message is on its way. */
export type BodyTarget = {
  /** The body is thrown away (the answer to HEAD, 204, 304), so the announced length is not its own. */
  readonly discards?: boolean;
  /** Bytes taken now, or `'closed'` when nobody takes any more. Throws `HttpFailure` when the transfer has failed. */
  capacity(): number | 'closed';
  write(bytes: Uint8Array): void;
  isFlushed(): boolean;
  /** Calls back once when one of the above may have changed. */
  onDrain(callback: () => void): () => void;
  end(trailers: HeaderList | undefined): void;
  /** The body will not be completed. */
  abort(code: ErrorCode): void;
};

/** Which message the body belongs to, and the length its head announces. */
export type BodyKind = {
  readonly message: 'request' | 'response';
  readonly contentLength: number | undefined;
};

/**
 * The body of an outgoing message between the guest's output stream and where it goes. Holds at most
 * `maxUnattachedBytes` until `attach`, and sees to it that the announced length is kept.
 */
export class BodyChannel implements ByteSink, Readiness {
  readonly #scope: InstanceScope;
  readonly #kind: BodyKind;
  readonly #signal = new Signal();
  #state:
    | { readonly kind: 'open' }
    | { readonly kind: 'finished'; readonly trailers: HeaderList | undefined }
    | { readonly kind: 'failed'; readonly code: ErrorCode } = { kind: 'open' };
  #target: BodyTarget | undefined;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #written = 0;
  #flushing = false;

  constructor(scope: InstanceScope, kind: BodyKind) {
    this.#scope = scope;
    this.#kind = kind;
  }

  /** The channel tells of itself. */
  get readiness(): Readiness {
    return this;
  }

  get state(): 'open' | 'finished' | 'failed' {
    return this.#state.kind;
  }

  /** Bytes kept because the body is not attached yet. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** The trailers of a body that is finished and not attached. */
  get trailers(): HeaderList | undefined {
    return this.#state.kind === 'finished' ? this.#state.trailers : undefined;
  }

  capacity(): number | 'closed' {
    if (this.#state.kind === 'failed') throw new HttpFailure(this.#state.code);
    if (this.#state.kind === 'finished') return 'closed';
    if (this.#target === undefined) return maxUnattachedBytes - this.#pendingBytes;
    const capacity = this.#target.capacity();
    return capacity !== 'closed' && this.#flushing && !this.isFlushed() ? 0 : capacity;
  }

  write(bytes: Uint8Array): void {
    this.#written += bytes.length;
    const contentLength = this.#announced();
    if (contentLength !== undefined && this.#written > contentLength) {
      const code = this.#wrongLength();
      this.abort(code);
      throw new HttpFailure(code);
    }
    if (this.#target !== undefined) {
      this.#target.write(bytes);
      return;
    }
    this.#scope.charge(bytes.length);
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
  }

  flush(): void {
    this.#flushing = !this.isFlushed();
  }

  /** What is kept for want of a target counts as passed on: nothing the guest could wait for would happen. */
  isFlushed(): boolean {
    const flushed = this.#target?.isFlushed() ?? true;
    if (flushed) this.#flushing = false;
    return flushed;
  }

  close(): void {}

  /** Says where the body goes, and passes on what has come so far. */
  attach(target: BodyTarget): void {
    this.#target = target;
    for (const bytes of this.takePending()) target.write(bytes);
    if (this.#state.kind === 'finished') target.end(this.#state.trailers);
    if (this.#state.kind === 'failed') target.abort(this.#state.code);
    this.#signal.notify();
  }

  /** Removes what is kept. */
  takePending(): readonly Uint8Array[] {
    const pending = this.#pending;
    this.#scope.refund(this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    return pending;
  }

  /**
   * The body is complete. Throws the WIT error code when it failed before, has not the announced length, or when a
   * request has trailers: the client cannot send them.
   */
  finish(trailers: HeaderList | undefined): void {
    if (this.#state.kind === 'failed') throw this.#state.code;
    if (this.#state.kind === 'finished') return;
    if (trailers !== undefined && this.#kind.message === 'request') {
      const code: ErrorCode = {
        tag: 'internal-error',
        val: 'trailers of outbound requests are not supported',
      };
      this.abort(code);
      throw code;
    }
    const contentLength = this.#announced();
    if (contentLength !== undefined && this.#written !== contentLength) {
      const code = this.#wrongLength();
      this.abort(code);
      throw code;
    }
    this.#state = { kind: 'finished', trailers };
    this.#target?.end(trailers);
    this.#signal.notify();
  }

  /** The body will not be completed; without effect once it is. */
  abort(code: ErrorCode): void {
    if (this.#state.kind !== 'open') return;
    this.#state = { kind: 'failed', code };
    this.takePending();
    this.#target?.abort(code);
    this.#signal.notify();
  }

  #announced(): number | undefined {
    return this.#target?.discards === true ? undefined : this.#kind.contentLength;
  }

  #wrongLength(): ErrorCode {
    return { tag: `HTTP-${this.#kind.message}-body-size`, val: BigInt(this.#written) };
  }

  /** As `ByteSink` wants it of its readiness. */
  isReady(): boolean {
    try {
      return this.capacity() !== 0;
    } catch {
      return true;
    }
  }

  subscribe(callback: () => void): () => void {
    const own = this.#signal.subscribe(callback);
    const drain = this.#target?.onDrain(callback);
    return () => {
      own();
      drain?.();
    };
  }
}
