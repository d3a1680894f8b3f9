import { ShimError } from '../../error.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes one name may have; the names of real components have at most a few hundred. */
export const maxNameBytes = 100_000;

/** Reads the WebAssembly binary encoding with every access checked. Throws `invalid-component`. */
export class BinaryReader {
  readonly #bytes: Uint8Array;
  /** First offset that is not this reader's. */
  readonly end: number;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.offset = offset;
    this.end = end;
  }

  get done(): boolean {
    return this.offset >= this.end;
  }

  peek(): number {
    if (this.offset >= this.end) throw this.invalid('it ends too early');
    return this.#bytes[this.offset] ?? 0;
  }

  byte(): number {
    const byte = this.peek();
    this.offset += 1;
    return byte;
  }

  /** An unsigned 32-bit LEB128 number. */
  u32(): number {
    const first = this.byte();
    if (first < 0x80) return first;
    let value = first & 0x7f;
    for (let shift = 7; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > 0xffff_ffff) break;
        return value;
      }
    }
    throw this.invalid('a number does not fit 32 bits');
  }

  /** Skips one LEB128 number of at most `maxBytes` bytes. */
  skipLeb(maxBytes: number): void {
    for (let count = 0; count < maxBytes; count++) if (this.byte() < 0x80) return;
    throw this.invalid('a number is too long');
  }

  /** A count of things that take at least one byte each, so that it can be no larger than what is left. */
  count(): number {
    const count = this.u32();
    if (count > this.end - this.offset) throw this.invalid(`it announces ${count} items and is shorter`);
    return count;
  }

  name(): string {
    const length = this.u32();
    if (length > maxNameBytes) throw this.invalid(`a name has ${length} bytes, the limit is ${maxNameBytes}`);
    const bytes = this.take(length);
    try {
      return utf8.decode(bytes);
    } catch {
      throw this.invalid('a name is not UTF-8');
    }
  }

  take(length: number): Uint8Array {
    if (length > this.end - this.offset) throw this.invalid('it ends too early');
    this.offset += length;
    return this.#bytes.subarray(this.offset - length, this.offset);
  }

  skip(length: number): void {
    this.take(length);
  }

  /** A reader for the next `length` bytes, which this one steps over. */
  section(length: number): BinaryReader {
    this.skip(length);
    return new BinaryReader(this.#bytes, this.offset - length, this.offset);
  }

  /** A reader of the same bytes at another place. */
  at(offset: number, end: number): BinaryReader {
    return new BinaryReader(this.#bytes, offset, end);
  }

  expectEnd(): void {
    if (this.offset !== this.end) throw this.invalid('a section is longer than its contents');
  }

  invalid(why: string): ShimError {
    return new ShimError('invalid-component', `not a valid binary: ${why} (offset ${this.offset})`);
  }
}
