import type { InstanceScope } from '../scope.ts';
import type { ByteSink, ByteSource } from '../wasi/io.ts';

/**
 * Streams and futures between the host and guests of WASI 0.3, as jco's glue has them: what a guest gives arrives as an
 * object to read from or as something thenable, what it gets is an async iterable or a promise.
 */

/** Bytes that are asked of a stream at a time. */
export const chunkBytes = 64 * 1024;

/** The read end of a guest's stream of bytes. Disposing it drops the end, which the guest's writer is told of. */
export type GuestStream = {
  read(options: { readonly count: number }): Promise<GuestRead>;
  [Symbol.dispose](): void;
};

type GuestRead = {
  readonly value?: Uint8Array | readonly number[] | number | undefined;
  readonly done: boolean;
};

/** The read end of a guest's future. Nothing is asked of the guest before `then`. */
export type GuestFuture<T> = PromiseLike<T>;

/** WIT `result`, where it is a value and not thrown. */
export type WitResult<Ok, Err> =
  | { readonly tag: 'ok'; readonly val: Ok }
  | { readonly tag: 'err'; readonly val: Err };

/** A promise that is only made when the guest asks for it. */
export type LazyPromise<T> = PromiseLike<T>;

export function lazily<T>(make: () => Promise<T>): LazyPromise<T> {
  let made: Promise<T> | undefined;
  return {
    // biome-ignore lint/suspicious/noThenProperty: the glue takes a thenable and asks it when the guest reads.
    then: (onValue, onError) => {
      made ??= make();
      return made.then(onValue, onError);
    },
  };
}

/** Hears of a guest's future without caring: one that nobody reads would keep the guest's writer waiting. */
export function heedlessly(future: GuestFuture<unknown>): void {
  Promise.resolve(future).then(
    () => {},
    () => {},
  );
}

/** Something bytes are read from at the reader's pace. */
export type ByteReader = {
  /** At most `count` bytes; undefined when there are no more. Rejects when they cannot be had. */
  read(count: number): Promise<Uint8Array | undefined>;
  close(): void;
};

/** Reads what a guest writes, until the scope ends. */
export function guestReader(scope: InstanceScope, stream: GuestStream): ByteReader {
  let ended = false;
  return {
    async read(count) {
      if (ended) return undefined;
      const { value, done } = await scope.ofGuest(stream.read({ count }));
      ended = done;
      if (value === undefined) return done ? undefined : new Uint8Array(0);
      return bytesOf(value);
    },
    close: () => stream[Symbol.dispose](),
  };
}

function bytesOf(value: Uint8Array | readonly number[] | number): Uint8Array {
  if (value instanceof Uint8Array) return value;
  return typeof value === 'number' ? Uint8Array.of(value) : Uint8Array.from(value);
}

/** Reads what the host has; waits within the scope. */
export function sourceReader(scope: InstanceScope, source: ByteSource): ByteReader {
  return {
    async read(count) {
      for (;;) {
        const bytes = source.read(count);
        if (bytes === 'end') return undefined;
        if (bytes !== undefined) return bytes;
        await scope.wait((resolve) => source.readiness.subscribe(resolve));
      }
    },
    close: () => source.close(),
  };
}

/**
 * Moves everything from a reader to a sink, never more at once than the sink takes, so that whoever is slow at one end
 * holds up the other. Returns `'closed'` when nobody takes any more. Rejects with what either end failed with. Closes the
 * reader in any case.
 */
export async function pump(
  scope: InstanceScope,
  reader: ByteReader,
  sink: Pick<ByteSink, 'capacity' | 'write' | 'readiness'>,
): Promise<'ended' | 'closed'> {
  try {
    for (;;) {
      const room = sink.capacity();
      if (room === 'closed') return 'closed';
      if (room === 0) {
        await scope.wait((resolve) => sink.readiness.subscribe(resolve));
        continue;
      }
      const bytes = await reader.read(Math.min(room, chunkBytes));
      if (scope.ended !== undefined) throw scope.ended;
      if (bytes === undefined) return 'ended';
      if (bytes.length > 0) sink.write(bytes);
    }
  } finally {
    reader.close();
  }
}

/**
 * A stream of bytes for the guest. It ends where the reader does; `onEnd` hears of it, with what made it fail if
 * something did, or of the guest dropping it before.
 */
export class HostStream implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array>, Disposable {
  readonly #scope: InstanceScope;
  readonly #reader: ByteReader;
  readonly #onEnd: (how: 'ended' | 'dropped' | { readonly failure: unknown }) => void;
  #open = true;

  constructor(
    scope: InstanceScope,
    reader: ByteReader,
    onEnd: (how: 'ended' | 'dropped' | { readonly failure: unknown }) => void,
  ) {
    this.#scope = scope;
    this.#reader = reader;
    this.#onEnd = onEnd;
    scope.adopt(this);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    try {
      while (this.#open) {
        const bytes = await this.#reader.read(chunkBytes);
        if (bytes === undefined) this.#close('ended');
        else if (bytes.length > 0) return { done: false, value: bytes };
      }
    } catch (failure) {
      this.#close({ failure });
    }
    return { done: true, value: undefined };
  }

  /** The guest has dropped its end. */
  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#close('dropped');
    return { done: true, value: undefined };
  }

  [Symbol.dispose](): void {
    this.#close('dropped');
  }

  #close(how: 'ended' | 'dropped' | { readonly failure: unknown }): void {
    if (!this.#open) return;
    this.#open = false;
    this.#scope.release(this);
    this.#reader.close();
    this.#onEnd(how);
  }
}
