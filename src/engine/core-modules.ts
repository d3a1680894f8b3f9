import { ShimError } from '../error.ts';
import { openCacheEntry } from './component-cache.ts';
import type { CacheEntry } from './component-entry.ts';
import type { PreparedApp, PreparedComponent } from './prepared-app.ts';

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
 * Reads the cache entry of every component, checks that this node's shim wrote it, and compiles its core modules, each
 * digest once. Throws `data-loss` for an entry that has to be made again.
 */
export async function compileCoreModules(prepared: PreparedApp): Promise<readonly CompiledComponent[]> {
  const byPath = new Map<string, Promise<Omit<CompiledComponent, 'id'>>>();
  return Promise.all(
    prepared.components.map(async (component) => {
      const known = byPath.get(component.entryPath) ?? compileEntry(component);
      byPath.set(component.entryPath, known);
      return { id: component.id, ...(await known) };
    }),
  );
}

async function compileEntry({
  entryPath,
  digest,
}: PreparedComponent): Promise<Omit<CompiledComponent, 'id'>> {
  const { entry, text, coreModules } = openCacheEntry(entryPath, digest);
  const modules = await Promise.all(
    coreModules.map(async ([name, bytes]): Promise<[string, WebAssembly.Module]> => {
      try {
        return [name, await WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>)];
      } catch (error) {
        throw new ShimError('data-loss', `"${entryPath}" is not used: "${name}" does not compile`, {
          cause: error,
        });
      }
    }),
  );
  return { digest, entry, text, modules: new Map(modules) };
}
