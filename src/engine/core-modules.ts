import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { type CacheEntry, readCacheEntry } from './component-cache.ts';
import type { PreparedApp } from './prepared-app.ts';

/** A component's cache entry with its core modules compiled; it can be posted to workers, which then share the code. */
export type CompiledComponent = {
  readonly id: string;
  readonly directory: string;
  readonly entry: CacheEntry;
  readonly modules: ReadonlyMap<string, WebAssembly.Module>;
};

/** Reads and compiles the core modules of every component, each digest once. Throws `internal` for a damaged cache. */
export async function compileCoreModules(prepared: PreparedApp): Promise<readonly CompiledComponent[]> {
  const byDirectory = new Map<string, Promise<Omit<CompiledComponent, 'id'>>>();
  return Promise.all(
    prepared.components.map(async ({ id, directory }) => {
      const known = byDirectory.get(directory) ?? compileEntry(directory);
      byDirectory.set(directory, known);
      return { id, ...(await known) };
    }),
  );
}

async function compileEntry(directory: string): Promise<Omit<CompiledComponent, 'id'>> {
  const entry = await readCacheEntry(directory);
  const modules = await Promise.all(
    entry.coreModules.map(async (name): Promise<[string, WebAssembly.Module]> => {
      try {
        return [name, await WebAssembly.compile(await readFile(join(directory, name)))];
      } catch (error) {
        throw new ShimError(
          'internal',
          `the cache entry "${directory}" is damaged ("${name}"): remove it and start the pod again`,
          { cause: error },
        );
      }
    }),
  );
  return { directory, entry, modules: new Map(modules) };
}
