import { setV8Flag } from './v8-flags.ts';

/** Bytes of a page of linear memory. */
export const pageBytes = 65_536;

/** Pages that a 32-bit memory can have at most. */
const maxPages = 65_536;

/** V8's own value of its cap. */
const noLimit = 2 ** 32 - 1;

/** What one linear memory may have. */
export type InstanceMemoryLimit = {
  readonly pages: number;
  /** The limit in words, with the name of what sets it. */
  readonly text: string;
};

/**
 * The limit of one linear memory: SPIN_MAX_INSTANCE_MEMORY (bytes), but no more than the container has, which is also the
 * limit where none is set. Undefined when neither sets one. A value that is no number sets none, as in Spin
 * (reference/spin.md 6.3).
 */
export function instanceMemoryLimit(
  environment: readonly (readonly [string, string])[],
  containerBytes: number | undefined,
): InstanceMemoryLimit | undefined {
  const text = new Map(environment).get('SPIN_MAX_INSTANCE_MEMORY');
  const set = text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : Number.POSITIVE_INFINITY;
  const bytes = Math.min(set, containerBytes ?? Number.POSITIVE_INFINITY);
  if (bytes >= maxPages * pageBytes) return undefined;
  const name = bytes === set ? 'SPIN_MAX_INSTANCE_MEMORY' : "the container's memory limit";
  return { pages: Math.floor(bytes / pageBytes), text: `${bytes} bytes (${name})` };
}

/** Whether V8 could not make a linear memory. */
export function isMemoryRefused(thrown: unknown): boolean {
  return thrown instanceof RangeError && thrown.message.includes('Cannot allocate Wasm memory');
}

/**
 * Caps every linear memory that this process makes from now on, in all threads: growing beyond fails, a memory that
 * starts larger cannot be made. Without a number of pages the cap is V8's own again.
 */
export function limitInstanceMemory(pages = noLimit): void {
  setV8Flag(`--wasm-max-mem-pages=${pages}`);
}
