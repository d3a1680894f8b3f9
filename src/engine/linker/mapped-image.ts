import { closeSync, ftruncateSync, writeSync } from 'node:fs';
import { ShimError } from '../../error.ts';
import {
  addressOf,
  createMemoryFile,
  discardMemory,
  mapPrivately,
  sealMemoryFile,
} from '../../linux-memory.ts';
import { hold, ownDescriptors } from '../worker-descriptors.ts';
import { type ImageRange, layoutOf, placeOf, rangeAlignment } from './image-ranges.ts';
import { type Image, MemoryImage, type Run } from './memory-image.ts';
import { pageBytes, readOwnPages } from './own-pages.ts';
import type { StartImage } from './start-image.ts';

/** Size of a memory from which mapping pays: below it, copying all of it takes no longer than asking for what was written. */
export const minMappedBytes = 512 * 1024;

/** Pages an instance may keep for its next request; one that wrote more gives them all back. */
export const maxKeptPages = 1024;

/** A file with the bytes of an image, laid out by `layoutOf`, from `at` on, which is whole pages. */
export type ImageFile = { readonly fd: number; readonly at: number };

/**
 * An image that instances share copy-on-write: a file that nobody changes, mapped over each instance's memory. A page takes
 * memory of an instance's own when the guest first writes to it. To restore, the kernel is asked which pages those are,
 * and they alone are copied back; they stay for the next request, which mostly writes to the same ones.
 */
export class MappedImage implements Image {
  readonly #file: ImageFile;
  readonly #ranges: readonly ImageRange[];
  /** The file, mapped once for reading, and the image over it. */
  readonly #pristine: Uint8Array;
  readonly #image: MemoryImage;
  readonly #addresses = new WeakMap<WebAssembly.Memory, bigint>();

  /** Throws where the file cannot be mapped. */
  private constructor(memoryBytes: number, runs: StartImage['runs'], file: ImageFile) {
    this.#file = file;
    this.#ranges = layoutOf(runs).ranges;
    const memory = new WebAssembly.Memory({ initial: memoryBytes / rangeAlignment });
    this.#map(memory);
    this.#pristine = new Uint8Array(memory.buffer);
    this.#image = new MemoryImage(
      memoryBytes,
      runs.map(([offset, length]) => ({ offset, bytes: this.#pristine.subarray(offset, offset + length) })),
    );
  }

  /** Puts an image into a file; undefined where that does not pay, or where this system does not let us. */
  static make(image: MemoryImage): MappedImage | undefined {
    if (image.memoryBytes < minMappedBytes || ownDescriptors().pagemapFd === undefined) return undefined;
    const runs = image.runs.map(({ offset, bytes }) => [offset, bytes.length] as const);
    const { ranges, length } = layoutOf(runs);
    const parts = image.runs.map(({ offset, bytes }) => ({ offset: placeOf(ranges, offset), bytes }));
    const fd = makeImageFile(length, parts);
    if (fd === undefined) return undefined;
    const mapped = MappedImage.open(image.memoryBytes, runs, { fd, at: 0 });
    if (mapped !== undefined && hold(fd)) return mapped;
    closeSync(fd);
    return undefined;
  }

  /** Takes a file, which stays its maker's; undefined where this system does not let us map it. */
  static open(memoryBytes: number, runs: StartImage['runs'], file: ImageFile): MappedImage | undefined {
    try {
      return new MappedImage(memoryBytes, runs, file);
    } catch (thrown) {
      // A kernel or a filter without one of the calls: copying needs none of them.
      if (thrown instanceof ShimError) return undefined;
      throw thrown;
    }
  }

  get memoryBytes(): number {
    return this.#image.memoryBytes;
  }

  matches(memory: Buffer): boolean {
    return this.#image.matches(memory);
  }

  attach(memory: WebAssembly.Memory): void {
    try {
      // Also pages that were only read count as a memory's own; those of the time before are given back.
      discardMemory(memory.buffer, 0, memory.buffer.byteLength);
      this.#map(memory);
      this.#addresses.set(memory, addressOf(memory.buffer));
    } catch (thrown) {
      // The kernel has no room for another mapping: this memory gets a copy, and is restored by copying.
      if (!(thrown instanceof ShimError)) throw thrown;
      this.#image.fill(memory);
    }
  }

  fill(memory: WebAssembly.Memory): void {
    this.attach(memory);
  }

  #map(memory: WebAssembly.Memory): void {
    const { fd, at } = this.#file;
    for (const { start, length, place } of this.#ranges)
      mapPrivately(memory.buffer, start, length, fd, at + place);
  }

  restore(memory: WebAssembly.Memory, view: Uint8Array): number {
    // V8 grows a memory where it is. Should it ever move one, what was mapped is gone and all has to be copied.
    const isMapped = this.#addresses.get(memory) === addressOf(memory.buffer);
    const pages = isMapped ? readOwnPages(memory.buffer) : undefined;
    if (pages === undefined) return this.#image.restore(memory, view);
    let kept = 0;
    for (const [first, end] of pages) kept += end - first;
    if (kept > maxKeptPages) {
      discardMemory(memory.buffer, 0, view.length);
      return 0;
    }
    for (const [first, end] of pages) this.#copyBack(view, first * pageBytes, end * pageBytes);
    return kept * pageBytes;
  }

  #copyBack(view: Uint8Array, start: number, end: number): void {
    const known = Math.min(end, this.#pristine.length);
    if (start < known) view.set(this.#pristine.subarray(start, known), start);
    if (known < end) view.fill(0, Math.max(start, known), end);
  }
}

/**
 * A sealed file in memory of `length` bytes, with parts at their offsets and zeros between them. Undefined where this
 * system has no such files.
 */
export function makeImageFile(length: number, parts: readonly Run[]): number | undefined {
  let fd: number | undefined;
  try {
    fd = createMemoryFile('guest-image');
    ftruncateSync(fd, length);
    for (const { offset, bytes } of parts) writeSync(fd, bytes, 0, bytes.length, offset);
    sealMemoryFile(fd);
    return fd;
  } catch {
    if (fd !== undefined) closeSync(fd);
    return undefined;
  }
}
