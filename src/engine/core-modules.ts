import { ShimError } from '../error.ts';
import { openCacheEntry } from './component-cache.ts';
import type { CacheEntry, EntryContent } from './component-entry.ts';
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

/** Compiles the core modules of every component, each entry once. Throws `data-loss` for one that does not compile. */
export async function compileCoreModules(
  prepared: PreparedApp,
  entries: ReadonlyMap<string, EntryContent>,
): Promise<readonly CompiledComponent[]> {
  const compiled = new Map<string, ReadonlyMap<string, WebAssembly.Module>>();
  for (const [path, { coreModules }] of entries) compiled.set(path, await compileAll(path, coreModules));
  return prepared.components.flatMap(({ id, digest, entryPath }) => {
    const content = entries.get(entryPath);
    const modules = compiled.get(entryPath);
    if (content === undefined || modules === undefined) return [];
    return [{ id, digest, entry: content.entry, text: content.text, modules }];
  });
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
