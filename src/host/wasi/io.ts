import { ShimError } from '../../error.ts';
import type { InstanceScope, ScopeSource } from '../scope.ts';

/**
 * wasi:io 0.2 (error, poll, streams) for jco's `js` bindings under JSPI: resource methods return a promise when they
 * have to wait, results are returned as values and errors thrown as plain WIT payloads. An `Error` thrown from here
 * traps the guest.
 */

/** Bytes one read may return and one write may take, whatever the guest asks for. */
export const maxChunkBytes = 1024 * 1024;

/** Something a guest can wait for. `subscribe` calls back at most once, when it may have become ready. */
export type Readiness = {
  isReady(): boolean;
  subscribe(callback: () => void): () => void;
};

/** A readiness that somebody announces by `notify`. */
export class Signal {
  #callbacks: Set<() => void> | undefined;

  subscribe(callback: () => void): () => void {
    this.#callbacks ??= new Set();
    this.#callbacks.add(callback);
    return () => this.#callbacks?.delete(callback);
  }

  /** Calls every subscriber once and forgets it. */
  notify(): void {
    const callbacks = this.#callbacks;
    if (callbacks === undefined) return;
    this.#callbacks = undefined;
    for (const callback of callbacks) callback();
  }
}

/** Where an input stream's bytes come from. */
export type ByteSource = {
  readonly readiness: Readiness;
  /**
   * Takes up to `max` bytes. `undefined` means nothing yet, `'end'` that there will be no more.
   * A thrown Error becomes `last-operation-failed` for the guest; its text reaches the guest by `to-debug-string`.
   */
  read(max: number): Uint8Array | 'end' | undefined;
  close(): void;
};

/** Where an output stream's bytes go. */
export type ByteSink = {
  /** Ready means: `capacity() > 0` and no flush is under way, or the sink has failed or closed. */
  readonly readiness: Readiness;
  /** Bytes that `write` takes now; 0 = none for the moment; `'closed'` when the other side is gone. Throws on failure. */
  capacity(): number | 'closed';
  /** Takes the bytes (never more than `capacity()` said); owns them from then on. */
  write(bytes: Uint8Array): void;
  /** Asks that everything written be passed on; `isFlushed` tells when that is so. */
  flush(): void;
  isFlushed(): boolean;
  close(): void;
};

/** wasi:io/error `error`. */
export class IoError {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toDebugString(): string {
    return this.#text;
  }

  [Symbol.dispose](): void {}
}

export type StreamError =
  | { readonly tag: 'last-operation-failed'; readonly val: IoError }
  | { readonly tag: 'closed' };

const closed: StreamError = { tag: 'closed' };

/** The source's own failure, kept so that the http and filesystem hosts can find its cause again. */
export class SourceFailure extends IoError {
  readonly cause: unknown;

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause));
    this.cause = cause;
  }
}

function failed(cause: unknown): StreamError {
  return { tag: 'last-operation-failed', val: new SourceFailure(cause) };
}

/** wasi:io/poll `pollable`. */
export class Pollable {
  readonly #scope: InstanceScope;
  readonly #readiness: Readiness;

  constructor(scope: InstanceScope, readiness: Readiness) {
    this.#scope = scope;
    this.#readiness = readiness;
    scope.adopt(this);
  }

  ready(): boolean {
    return this.#readiness.isReady();
  }

  block(): void | Promise<void> {
    if (!this.#readiness.isReady()) return untilReady(this.#scope, this.#readiness);
  }

  subscribe(callback: () => void): () => void {
    return this.#readiness.subscribe(callback);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
  }
}

/**
 * wasi:io/poll `poll`: waits until at least one is ready, returns the indexes of those that are. Traps on an empty list and
 * on one of more than `maxHandles`.
 */
export function poll(
  scope: InstanceScope,
  pollables: readonly Pollable[],
): Uint32Array | Promise<Uint32Array> {
  if (pollables.length === 0) throw new Error('wasi:io/poll#poll was called with an empty list');
  const { maxHandles } = scope.limits;
  // One pollable may be listed any number of times.
  if (pollables.length > maxHandles)
    throw new ShimError(
      'resource-exhausted',
      `wasi:io/poll#poll was called with ${pollables.length} pollables, the limit "maxHandles" is ${maxHandles}`,
    );
  const ready = indexesOfReady(pollables);
  return ready.length > 0 ? Uint32Array.from(ready) : untilOneIsReady(scope, pollables);
}

async function untilOneIsReady(scope: InstanceScope, pollables: readonly Pollable[]): Promise<Uint32Array> {
  for (;;) {
    await scope.wait((resolve) => {
      const cancels = pollables.map((pollable) => pollable.subscribe(resolve));
      return () => {
        for (const cancel of cancels) cancel();
      };
    });
    const ready = indexesOfReady(pollables);
    if (ready.length > 0) return Uint32Array.from(ready);
  }
}

function indexesOfReady(pollables: readonly Pollable[]): number[] {
  const ready: number[] = [];
  for (let index = 0; index < pollables.length; index++) if (pollables[index]?.ready()) ready.push(index);
  return ready;
}

async function untilReady(scope: InstanceScope, readiness: Readiness): Promise<void> {
  while (!readiness.isReady()) await scope.wait((resolve) => readiness.subscribe(resolve));
}

function clampLength(length: bigint): number {
  return length > BigInt(maxChunkBytes) ? maxChunkBytes : Number(length);
}

/** wasi:io/streams `input-stream` over a byte source. */
export class InputStream {
  readonly #scope: InstanceScope;
  readonly #source: ByteSource;

  constructor(scope: InstanceScope, source: ByteSource) {
    this.#scope = scope;
    this.#source = source;
    scope.adopt(this);
  }

  read(length: bigint): Uint8Array {
    let bytes: Uint8Array | 'end' | undefined;
    try {
      bytes = this.#source.read(clampLength(length));
    } catch (error) {
      throw failed(error);
    }
    if (bytes === 'end') throw closed;
    return bytes ?? new Uint8Array(0);
  }

  blockingRead(length: bigint): Uint8Array | Promise<Uint8Array> {
    const bytes = this.read(length);
    return bytes.length > 0 || length === 0n ? bytes : this.#readWhenReady(length);
  }

  async #readWhenReady(length: bigint): Promise<Uint8Array> {
    for (;;) {
      await untilReady(this.#scope, this.#source.readiness);
      const bytes = this.read(length);
      if (bytes.length > 0) return bytes;
    }
  }

  skip(length: bigint): bigint {
    return BigInt(this.read(length).length);
  }

  async blockingSkip(length: bigint): Promise<bigint> {
    return BigInt((await this.blockingRead(length)).length);
  }

  subscribe(): Pollable {
    return new Pollable(this.#scope, this.#source.readiness);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#source.close();
  }
}

/** wasi:io/streams `output-stream` over a byte sink. */
export class OutputStream {
  readonly #scope: InstanceScope;
  readonly #sink: ByteSink;

  constructor(scope: InstanceScope, sink: ByteSink) {
    this.#scope = scope;
    this.#sink = sink;
    scope.adopt(this);
  }

  checkWrite(): bigint {
    return BigInt(Math.min(this.#capacity(), maxChunkBytes));
  }

  write(bytes: Uint8Array): void {
    if (bytes.length > this.#capacity())
      throw new Error('output-stream.write: more bytes than check-write permitted');
    if (bytes.length === 0) return;
    try {
      this.#sink.write(bytes);
    } catch (error) {
      throw failed(error);
    }
  }

  blockingWriteAndFlush(bytes: Uint8Array): void | Promise<void> {
    if (bytes.length > this.#capacity()) return this.#writeInParts(bytes);
    this.write(bytes);
    return this.blockingFlush();
  }

  async #writeInParts(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length) {
      const room = Math.min(this.#capacity(), bytes.length - offset);
      if (room === 0) {
        await untilReady(this.#scope, this.#sink.readiness);
        continue;
      }
      this.write(bytes.subarray(offset, offset + room));
      offset += room;
    }
    await this.blockingFlush();
  }

  flush(): void {
    this.#capacity();
    this.#sink.flush();
  }

  blockingFlush(): void | Promise<void> {
    this.flush();
    if (!this.#sink.isFlushed()) return this.#untilFlushed();
  }

  async #untilFlushed(): Promise<void> {
    while (!this.#sink.isFlushed()) {
      await this.#scope.wait((resolve) => this.#sink.readiness.subscribe(resolve));
      this.#capacity();
    }
  }

  subscribe(): Pollable {
    return new Pollable(this.#scope, this.#sink.readiness);
  }

  writeZeroes(length: bigint): void {
    if (length > this.checkWrite())
      throw new Error('output-stream.write-zeroes: more bytes than check-write permitted');
    this.write(new Uint8Array(Number(length)));
  }

  async blockingWriteZeroesAndFlush(length: bigint): Promise<void> {
    if (length > 4096n)
      throw new Error('output-stream.blocking-write-zeroes-and-flush: more than 4096 bytes');
    await this.blockingWriteAndFlush(new Uint8Array(Number(length)));
  }

  splice(source: InputStream, length: bigint): bigint {
    const room = this.checkWrite();
    const wanted = length < room ? length : room;
    if (wanted === 0n) return 0n;
    const bytes = source.read(wanted);
    this.write(bytes);
    return BigInt(bytes.length);
  }

  async blockingSplice(source: InputStream, length: bigint): Promise<bigint> {
    if (length === 0n) return 0n;
    while (this.checkWrite() === 0n) await untilReady(this.#scope, this.#sink.readiness);
    const room = this.checkWrite();
    const bytes = await source.blockingRead(length < room ? length : room);
    await this.blockingWriteAndFlush(bytes);
    return BigInt(bytes.length);
  }

  #capacity(): number {
    let capacity: number | 'closed';
    try {
      capacity = this.#sink.capacity();
    } catch (error) {
      throw failed(error);
    }
    if (capacity === 'closed') throw closed;
    return capacity;
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#sink.close();
  }
}

/** The three wasi:io interfaces of one instance, keyed by unversioned name. */
export function createIo(source: ScopeSource): ReadonlyMap<string, object> {
  return new Map<string, object>([
    ['wasi:io/error', { Error: IoError }],
    ['wasi:io/poll', { Pollable, poll: (pollables: readonly Pollable[]) => poll(source.scope, pollables) }],
    ['wasi:io/streams', { InputStream, OutputStream }],
  ]);
}

/** Functions of wasi:io that may wait, as jco's `asyncImports` names them. */
export const ioAsyncImports: readonly string[] = [
  'wasi:io/poll#poll',
  'wasi:io/poll#[method]pollable.block',
  'wasi:io/streams#[method]input-stream.blocking-read',
  'wasi:io/streams#[method]input-stream.blocking-skip',
  'wasi:io/streams#[method]output-stream.blocking-write-and-flush',
  'wasi:io/streams#[method]output-stream.blocking-flush',
  'wasi:io/streams#[method]output-stream.blocking-write-zeroes-and-flush',
  'wasi:io/streams#[method]output-stream.blocking-splice',
];
