/** Bytes kept of a request's description. */
const maxBytes = 512;

/**
 * The request that a worker began last, in memory that the main thread can read while the worker is busy: all there is
 * to tell which guest does not come to an end.
 */
export class LastRequest {
  readonly buffer: SharedArrayBuffer;
  readonly #length: Uint32Array;
  readonly #text: Uint8Array;

  /** Without a buffer it makes one; the worker's side is given that of the main thread. */
  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 + maxBytes)) {
    this.buffer = buffer;
    this.#length = new Uint32Array(buffer, 0, 1);
    this.#text = new Uint8Array(buffer, 4);
  }

  /** Overwrites what was there; longer texts are cut. */
  record(text: string): void {
    const bytes = Buffer.from(text).subarray(0, this.#text.length);
    this.#text.set(bytes);
    Atomics.store(this.#length, 0, bytes.length);
  }

  /** Undefined when no request was begun yet. */
  read(): string | undefined {
    const length = Atomics.load(this.#length, 0);
    return length === 0 ? undefined : Buffer.from(this.#text.subarray(0, length)).toString('utf8');
  }
}
