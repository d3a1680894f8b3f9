import { setFlagsFromString } from 'node:v8';

/** Bytes of a page of linear memory. */
export const pageBytes = 65_536;

/** Pages that a 32-bit memory can have at most. */
const maxPages = 65_536;

/**
 * Pages that SPIN_MAX_INSTANCE_MEMORY (bytes) allows one linear memory; undefined when it sets no limit, which is also
 * what Spin makes of a value that is no number (reference/spin.md 6.3).
 */
export function instanceMemoryPages(environment: readonly (readonly [string, string])[]): number | undefined {
  const text = new Map(environment).get('SPIN_MAX_INSTANCE_MEMORY');
  if (text === undefined || !/^\d{1,15}$/.test(text)) return undefined;
  const pages = Math.floor(Number(text) / pageBytes);
  return pages >= maxPages ? undefined : pages;
}

/**
 * Caps every linear memory that this process makes from now on, in all threads: growing beyond fails, a memory that
 * starts larger cannot be made.
 */
export function limitInstanceMemory(pages: number): void {
  setFlagsFromString(`--wasm-max-mem-pages=${pages}`);
}
