import type { Run } from './memory-image.ts';

/** Ranges begin and end here, in a memory and in a file: a page of WebAssembly, which is whole pages of every kernel. */
export const rangeAlignment = 65_536;

/** Part of a memory that is mapped as one. */
export type ImageRange = {
  readonly start: number;
  readonly length: number;
  /** Where it begins in the bytes of the image. */
  readonly place: number;
};

/** How an image lies in a file: one range after the other, and nothing of what is between them in the memory. */
export type ImageLayout = { readonly ranges: readonly ImageRange[]; readonly length: number };

/** The runs of an image, in their order, widened to whole pages and put together where they meet. */
export function layoutOf(runs: readonly (readonly [offset: number, length: number])[]): ImageLayout {
  const bounds: [start: number, end: number][] = [];
  for (const [offset, length] of runs) {
    const start = Math.floor(offset / rangeAlignment) * rangeAlignment;
    const end = Math.ceil((offset + length) / rangeAlignment) * rangeAlignment;
    const last = bounds.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = end;
    else bounds.push([start, end]);
  }
  let length = 0;
  const ranges = bounds.map(([start, end]) => {
    length += end - start;
    return { start, length: end - start, place: length - (end - start) };
  });
  return { ranges, length };
}

/** The bytes of an image, laid out, of which each range has its part. */
export function packRanges(memory: Uint8Array, { ranges, length }: ImageLayout): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const { start, length, place } of ranges) bytes.set(memory.subarray(start, start + length), place);
  return bytes;
}

/** The runs of an image as views of its bytes, the reverse. */
export function unpackRuns(
  bytes: Uint8Array,
  runs: readonly (readonly [offset: number, length: number])[],
): readonly Run[] {
  const { ranges } = layoutOf(runs);
  return runs.map(([offset, length]) => {
    const place = placeOf(ranges, offset);
    return { offset, bytes: bytes.subarray(place, place + length) };
  });
}

/** Where the byte at an offset of the memory is in the bytes of the image; some range has it. */
export function placeOf(ranges: readonly ImageRange[], offset: number): number {
  const range = ranges.find(({ start, length }) => offset >= start && offset < start + length);
  return range === undefined ? 0 : range.place + offset - range.start;
}
