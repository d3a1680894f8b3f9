import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ShimError } from '../error.ts';
import { type CacheEntry, glueFile } from './component-cache.ts';

/** The imports object a component's glue takes: interface name → its functions and classes. */
export type ImportObject = Readonly<Record<string, object>>;

/** The exports of an instance: interface name → its functions. */
export type InstanceExports = Readonly<
  Record<string, Readonly<Record<string, (...args: never[]) => unknown>>>
>;

type Instantiate = (
  getCoreModule: (name: string) => WebAssembly.Module,
  imports: ImportObject,
  instantiateCore: (
    module: WebAssembly.Module,
    imports?: WebAssembly.Imports,
  ) => WebAssembly.Instance | Promise<WebAssembly.Instance>,
) => Promise<InstanceExports>;

/** A component loaded into this worker: glue imported, core modules at hand, ready for any number of instances. */
export class ComponentRuntime {
  readonly id: string;
  readonly entry: CacheEntry;
  readonly #instantiate: Instantiate;
  readonly #modules: ReadonlyMap<string, WebAssembly.Module>;

  private constructor(
    id: string,
    entry: CacheEntry,
    instantiate: Instantiate,
    modules: ReadonlyMap<string, WebAssembly.Module>,
  ) {
    this.id = id;
    this.entry = entry;
    this.#instantiate = instantiate;
    this.#modules = modules;
  }

  /** Imports the glue of a cache entry. `modules` are the entry's core modules by file name. */
  static async load(
    id: string,
    directory: string,
    entry: CacheEntry,
    modules: ReadonlyMap<string, WebAssembly.Module>,
  ): Promise<ComponentRuntime> {
    const glue = (await import(pathToFileURL(join(directory, glueFile)).href)) as {
      instantiate: Instantiate;
    };
    return new ComponentRuntime(id, entry, glue.instantiate, modules);
  }

  /** A fresh instance over the given host objects. Rejects when the guest's own start-up code traps. */
  instantiate(imports: ImportObject): Promise<InstanceExports> {
    return this.#instantiate(
      (name) => {
        const module = this.#modules.get(name);
        if (module === undefined)
          throw new ShimError(
            'internal',
            `the cache entry of component "${this.id}" has no core module "${name}"`,
          );
        return module;
      },
      imports,
      instantiateCore,
    );
  }
}

/** Name of the function by which a preview 1 reactor runs its constructors. */
const initializer = '_initialize';

/**
 * Instantiates one core module. What a component has as `_initialize` is called by the start function of its last
 * module, where nothing may wait (reference/engine.md section 4); so that function gets one that does nothing, and the
 * real one is called after it, where a guest that prints may wait for its output.
 */
function instantiateCore(
  module: WebAssembly.Module,
  imports: WebAssembly.Imports = {},
): WebAssembly.Instance | Promise<WebAssembly.Instance> {
  for (const [from, functions] of Object.entries(imports)) {
    const initialize = functions[initializer];
    if (typeof initialize !== 'function') continue;
    const deferred = { ...imports, [from]: { ...functions, [initializer]: () => {} } };
    const instance = new WebAssembly.Instance(module, deferred);
    return WebAssembly.promising(initialize)().then(() => instance);
  }
  return new WebAssembly.Instance(module, imports);
}
