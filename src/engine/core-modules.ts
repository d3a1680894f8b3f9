import { ShimError } from '../error.ts';
import { openCacheEntry } from './component-cache.ts';
import type { CacheEntry, EntryContent } from './component-entry.ts';
import type { KeptImage } from './linker/linked-component.ts';
import { makeImageFile } from './linker/mapped-image.ts';
import type { PreparedApp } from './prepared-app.ts';

/**
 * A component with its core modules compiled; it can be posted to workers, which then share the code and need nothing
 * of the cache.
 */
export type CompiledComponent = {
  readonly id: string;
  readonly digest: string;
  readonly entry: CacheEntry;
  /** The glue as ES module text, or the plan as JSON. */
  readonly text: string;
  readonly modules: ReadonlyMap<string, WebAssembly.Module>;
  /** The memory before any code runs; its file is the engine's for as long as that lives. */
  readonly start?: KeptImage;
};

/**
 * Reads the cache entry of every component and checks that this node's shim wrote it, each digest once. By path. Throws
 * `data-loss` for an entry that has to be made again.
 */
export function openEntries(prepared: PreparedApp): ReadonlyMap<string, EntryContent> {
  const entries = new Map<string, EntryContent>();
  for (const { entryPath, digest } of prepared.components)
    if (!entries.has(entryPath)) entries.set(entryPath, openCacheEntry(entryPath, digest));
  return entries;
}

/**
 * Compiles the core modules of every component, each entry once; the entries cannot be used afterwards. Throws `data-loss` for one that does not compile.
 */
export async function compileCoreModules(
  prepared: PreparedApp,
  entries: ReadonlyMap<string, EntryContent>,
): Promise<readonly CompiledComponent[]> {
  const compiled = new Map<string, Omit<CompiledComponent, 'id' | 'digest'>>();
  for (const [path, { entry, text, coreModules, start }] of entries) {
    const modules = compileAll(path, coreModules);
    // While V8's own threads compile.
    const kept = start === undefined ? {} : { start: keep(start) };
    compiled.set(path, { entry, text, modules: await modules, ...kept });
    release(coreModules);
  }
  return prepared.components.flatMap(({ id, digest, entryPath }) => {
    const content = compiled.get(entryPath);
    return content === undefined ? [] : [{ id, digest, ...content }];
  });
}

/** Puts an image into a file that all workers map, so that they share its memory. */
function keep({ image, bytes }: NonNullable<EntryContent['start']>): KeptImage {
  let place = 0;
  const runs = image.runs.map(([offset, length]) => {
    place += length;
    return { offset, bytes: bytes.subarray(place - length, place) };
  });
  const fd = makeImageFile(image.memoryBytes, runs);
  return fd === undefined ? { image, bytes: Uint8Array.from(bytes) } : { image, fd };
}

/** Gives back the bytes of an entry, of which V8 has a copy: nothing else would make it collect them for a long time. */
function release(coreModules: EntryContent['coreModules']): void {
  const [first] = coreModules;
  if (first !== undefined) (first[1].buffer as ArrayBuffer).transfer(0);
}

async function compileAll(
  path: string,
  coreModules: EntryContent['coreModules'],
): Promise<ReadonlyMap<string, WebAssembly.Module>> {
  const modules = coreModules.map(async ([name, bytes]): Promise<[string, WebAssembly.Module]> => {
    try {
      return [name, await WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>)];
    } catch (error) {
      throw new ShimError('data-loss', `"${path}" is not used: "${name}" does not compile`, { cause: error });
    }
  });
  return new Map(await Promise.all(modules));
}
