/** Bytes kept of a request's description. */
const maxBytes = 512;

/**
 * The request that a worker began last, in memory that the main thread can read while the worker is busy: all there is
 * to tell which guest does not come to an end.
 */
export class LastRequest {
  readonly buffer: SharedArrayBuffer;
  readonly #length: Uint32Array;
  readonly #text: Buffer;

  /** Without a buffer it makes one; the worker's side is given that of the main thread. */
  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 + maxBytes)) {
    this.buffer = buffer;
    this.#length = new Uint32Array(buffer, 0, 1);
    this.#text = Buffer.from(buffer, 4);
  }

  /** Overwrites what was there; longer texts are cut. */
  record(text: string): void {
    Atomics.store(this.#length, 0, this.#text.write(text));
  }

  /** Undefined when no request was begun yet. */
  read(): string | undefined {
    const length = Atomics.load(this.#length, 0);
    return length === 0 ? undefined : this.#text.toString('utf8', 0, length);
  }
}
