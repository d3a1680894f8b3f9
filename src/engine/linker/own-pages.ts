import { readSync } from 'node:fs';
import { addressOf, systemPageBytes } from '../../linux-memory.ts';
import { ownDescriptors } from '../worker-descriptors.ts';

/** Bytes of one page of this kernel. */
export const pageBytes = systemPageBytes;

/** Bytes that /proc/self/pagemap has for a page: a little-endian u64, of which the upper half has the flags. */
const entryBytes = 8;

/** Flags in the upper half of an entry: in memory, swapped out, of a file (or of memory shared with others). */
const [present, swapped, ofFile] = [0x8000_0000, 0x4000_0000, 0x2000_0000];

let entries = new Uint32Array(0);

/**
 * The pages in a memory that are no longer those of a file mapped there nor untouched: what was written since, in the
 * memory's own copy. As ranges of page numbers, first and end. Undefined when the kernel does not tell.
 */
export function readOwnPages(
  memory: ArrayBuffer,
): readonly (readonly [first: number, end: number])[] | undefined {
  const { pagemapFd } = ownDescriptors();
  if (pagemapFd === undefined) return undefined;
  const pages = Math.ceil(memory.byteLength / pageBytes);
  if (entries.length < 2 * pages) entries = new Uint32Array(2 * pages);
  const bytes = new Uint8Array(entries.buffer, 0, entryBytes * pages);
  const position = (addressOf(memory) / BigInt(pageBytes)) * BigInt(entryBytes);
  if (readSync(pagemapFd, bytes, 0, bytes.length, position) !== bytes.length) return undefined;
  const ranges: [first: number, end: number][] = [];
  let first = -1;
  for (let page = 0; page < pages; page += 1) {
    const flags = entries[2 * page + 1] ?? 0;
    const own = (flags & (present | swapped)) !== 0 && (flags & ofFile) === 0;
    if (own && first < 0) first = page;
    else if (!own && first >= 0) {
      ranges.push([first, page]);
      first = -1;
    }
  }
  if (first >= 0) ranges.push([first, pages]);
  return ranges;
}
