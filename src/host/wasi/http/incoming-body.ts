import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { type ByteSource, InputStream, Pollable, type Readiness } from '../io.ts';
import type { ErrorCode } from './error-code.ts';
import { Fields } from './fields.ts';

/** The body of a received message and what comes after it. */
export type IncomingContent = {
  /** The body's bytes. Nothing is asked of the peer before the first read or subscription. */
  readonly source: ByteSource;
  /** Ready when the body has ended or failed. */
  readonly ended: Readiness;
  /** How the body ended; undefined while it has not. */
  end(): { readonly trailers: HeaderList } | { readonly code: ErrorCode } | undefined;
  /** Reads what is left and drops it, so that the end comes. */
  discard(): void;
  /** Nobody will read on. Idempotent. */
  abandon(): void;
};

/** wasi:http/types `incoming-body`. */
export class IncomingBody {
  readonly #scope: InstanceScope;
  readonly #content: IncomingContent;
  #streamed = false;

  constructor(scope: InstanceScope, content: IncomingContent) {
    this.#scope = scope;
    this.#content = content;
    scope.adopt(this);
  }

  stream(): InputStream {
    if (this.#streamed) throw undefined;
    this.#streamed = true;
    return new InputStream(this.#scope, this.#content.source);
  }

  static finish(body: IncomingBody): FutureTrailers {
    body.#scope.release(body);
    return new FutureTrailers(body.#scope, body.#content);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#content.abandon();
  }
}

/** `result<result<option<trailers>, error-code>>`. */
export type TrailersResult =
  | {
      readonly tag: 'ok';
      readonly val:
        | { readonly tag: 'ok'; readonly val: Fields | undefined }
        | { readonly tag: 'err'; readonly val: ErrorCode };
    }
  | { readonly tag: 'err'; readonly val: undefined };

/** wasi:http/types `future-trailers`. */
export class FutureTrailers {
  readonly #scope: InstanceScope;
  readonly #content: IncomingContent;
  #taken = false;

  constructor(scope: InstanceScope, content: IncomingContent) {
    this.#scope = scope;
    this.#content = content;
    scope.adopt(this);
  }

  subscribe(): Pollable {
    this.#content.discard();
    return new Pollable(this.#scope, this.#content.ended);
  }

  get(): TrailersResult | undefined {
    if (this.#taken) return { tag: 'err', val: undefined };
    const end = this.#content.end();
    if (end === undefined) {
      this.#content.discard();
      return undefined;
    }
    this.#taken = true;
    if ('code' in end) return { tag: 'ok', val: { tag: 'err', val: end.code } };
    const trailers = end.trailers.length === 0 ? undefined : Fields.received(this.#scope, end.trailers);
    return { tag: 'ok', val: { tag: 'ok', val: trailers } };
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#content.abandon();
  }
}
