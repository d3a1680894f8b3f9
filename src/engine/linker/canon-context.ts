import type { HandleEntry } from './handle-table.ts';
import type { InstanceState } from './instance-state.ts';
import { trap } from './trap.ts';

/** Bytes of strings and lists that one call may bring out of a guest, a fixed charge for each list item included. */
export const maxLiftedBytes = 64 * 1024 * 1024;

/** What one item of a list that becomes a JavaScript array is charged, in bytes. */
export const listItemCharge = 32;

type Realloc = (oldPointer: number, oldSize: number, align: number, newSize: number) => number;

const empty = new Uint8Array(0);

/** The memory and the allocator that a function's values go through, for one instance. */
export class CanonContext {
  readonly state: InstanceState;
  readonly #memory: WebAssembly.Memory | undefined;
  readonly #realloc: Realloc | undefined;
  bytes: Uint8Array = empty;
  /** The same bytes, for reading and writing text. */
  text: Buffer = Buffer.alloc(0);
  view = new DataView(empty.buffer);
  /** Bytes of the string or items of the list stored last. */
  storedLength = 0;
  #budget = maxLiftedBytes;
  /** Handles borrowed by the host call being set up, collected for calls that suspend. */
  lent: HandleEntry[] | undefined;

  constructor(state: InstanceState, memory: WebAssembly.Memory | undefined, realloc: Realloc | undefined) {
    this.state = state;
    this.#memory = memory;
    this.#realloc = realloc;
  }

  /** Makes the views fit the memory, which loses its buffer when it grows, and renews the budget. */
  enter(): void {
    this.refresh();
    this.#budget = maxLiftedBytes;
  }

  refresh(): void {
    if (this.bytes.length > 0 || this.#memory === undefined) return;
    const { buffer } = this.#memory;
    this.bytes = new Uint8Array(buffer);
    this.text = Buffer.from(buffer);
    this.view = new DataView(buffer);
  }

  charge(bytes: number): void {
    this.#budget -= bytes;
    if (this.#budget < 0) trap(`one call brings more than ${maxLiftedBytes} bytes`);
  }

  /** Checks that `length` bytes at a pointer lie in memory, and the pointer's alignment. */
  check(pointer: number, length: number, align: number): void {
    if (pointer % align !== 0) trap(`pointer ${pointer} is not aligned to ${align}`);
    if (pointer + length > this.bytes.length)
      trap(`${length} bytes at ${pointer} lie outside of the memory of ${this.bytes.length} bytes`);
  }

  /** Memory that the guest sets aside for a value. */
  allocate(size: number, align: number): number {
    if (this.#realloc === undefined) trap('a function that needs an allocator has none');
    if (size > 0x7fff_ffff) trap(`a value of ${size} bytes does not fit its memory`);
    const { state } = this;
    const before = state.mayLeave;
    state.mayLeave = false;
    const pointer = this.#realloc(0, 0, align, size) >>> 0;
    state.mayLeave = before;
    this.refresh();
    this.check(pointer, size, align);
    return pointer;
  }
}
