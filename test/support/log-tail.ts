/** Keeps the last bytes of an output that may be long. */
export class LogTail {
  readonly #limitBytes: number;
  #chunks: Buffer[] = [];
  #length = 0;

  /** @param limitBytes how much is kept, default 64 KiB */
  constructor(limitBytes = 65_536) {
    this.#limitBytes = limitBytes;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length <= 2 * this.#limitBytes) return;
    const kept = Buffer.concat(this.#chunks).subarray(-this.#limitBytes);
    this.#chunks = [kept];
    this.#length = kept.length;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).subarray(-this.#limitBytes).toString('utf8');
  }
}
