import type { Readable } from 'node:stream';

/** Header fields in order; names as received, values as raw bytes. */
export type HeaderList = readonly (readonly [name: string, value: Uint8Array])[];

/**
 * Tells that the client has gone: as much of an AbortSignal as anybody here needs. A real one does as well, but costs a
 * microsecond for each request, most of which have no use for it.
 */
export type GoneSignal = {
  readonly aborted: boolean;
  /** Why; undefined while the client is there. */
  readonly reason: unknown;
  throwIfAborted(): void;
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
};

/** One inbound request with the means to answer it: the seam between the HTTP trigger and wasi:http. */
export type HttpExchange = {
  readonly method: string;
  readonly scheme: 'http' | 'https';
  readonly authority: string;
  readonly pathWithQuery: string;
  readonly headers: HeaderList;
  /** Its pieces are the reader's own: nobody else looks at their memory any more. */
  readonly body: Readable;
  /** Trailers of the request; only complete once `body` has ended. */
  trailers(): HeaderList;
  /** Aborts when the client has gone. */
  readonly signal: GoneSignal;
  readonly response: ResponseSink;
};

/** Where the response goes. Exactly one of `end` and `abort` finishes it. */
export type ResponseSink = {
  /** Whether `start` was called. */
  readonly started: boolean;
  /** Sends status and headers. Throws when called twice or when a name or value is not valid. */
  start(status: number, headers: HeaderList): void;
  /** Queues body bytes; owns them from then on. */
  write(bytes: Uint8Array): void;
  /** Bytes the sink takes now without holding more than its high-water mark; 0 = wait for `onDrain`. */
  capacity(): number;
  /** Calls back once when `capacity()` has grown, everything is flushed, or the client has gone. Returns cancel. */
  onDrain(callback: () => void): () => void;
  /** Everything written has been handed to the kernel. */
  isFlushed(): boolean;
  end(trailers?: HeaderList): void;
  /** Cuts the connection so that the client can tell the body is not complete. */
  abort(): void;
};
