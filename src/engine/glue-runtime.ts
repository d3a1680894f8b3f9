import { registerHooks } from 'node:module';
import { ShimError } from '../error.ts';
import { InstanceScope } from '../host/scope.ts';
import type { GlueControl } from './glue-async-patches.ts';
import { GlueInstance, type GluePool, type InstanceExports } from './glue-instance.ts';
import { GlueTasks } from './glue-task.ts';
import type { ComponentRuntime, GuestInstance, HostMaker, ImportObject } from './guest-instance.ts';

type Instantiate = (
  getCoreModule: (name: string) => WebAssembly.Module,
  imports: ImportObject,
  instantiateCore: (
    module: WebAssembly.Module,
    imports?: WebAssembly.Imports,
  ) => WebAssembly.Instance | Promise<WebAssembly.Instance>,
  control: GlueControl,
) => Promise<InstanceExports>;

/** A component that runs on jco's glue: a fresh instance for every request. */
export class GlueRuntime implements ComponentRuntime {
  readonly id: string;
  /** None is kept. */
  readonly idle = 0;
  readonly #instantiate: Instantiate;
  readonly #modules: ReadonlyMap<string, WebAssembly.Module>;
  /** For a component whose instances serve several requests, as those of 0.3 do. */
  readonly #pool: GluePool | undefined;

  private constructor(
    id: string,
    instantiate: Instantiate,
    modules: ReadonlyMap<string, WebAssembly.Module>,
    pool: GluePool | undefined,
  ) {
    this.id = id;
    this.#instantiate = instantiate;
    this.#modules = modules;
    this.#pool = pool;
  }

  /** Imports the glue of a component. `modules` are its core modules by the name under which the glue asks for them. */
  static async load(
    id: string,
    source: { readonly name: string; readonly text: string },
    modules: ReadonlyMap<string, WebAssembly.Module>,
    pool?: GluePool,
  ): Promise<GlueRuntime> {
    const glue = (await importText(source.name, source.text)) as { instantiate: Instantiate };
    return new GlueRuntime(id, glue.instantiate, modules, pool);
  }

  /** jco looks functions up by itself and tells nobody. */
  missingFunctions(): readonly string[] {
    return [];
  }

  async acquire(scope: InstanceScope, makeHosts: HostMaker): Promise<GuestInstance> {
    const pool = this.#pool;
    if (pool !== undefined) {
      return pool.lend(pool.take(makeHosts) ?? (await this.#makeForSeveral(scope, makeHosts)), scope);
    }
    const instance = await this.#make(scope, makeHosts);
    return {
      call: (interfaceName, name, args) => instance.call(interfaceName, name, args),
      ended: () => instance.tasks.ended(),
      release: () => instance.end(new Error('the request is over')),
    };
  }

  async #makeForSeveral(request: InstanceScope, makeHosts: HostMaker): Promise<GlueInstance> {
    const scope = new InstanceScope(request.limits);
    try {
      return await this.#make(scope, makeHosts);
    } catch (error) {
      scope.end(ShimError.from(error));
      throw error;
    }
  }

  async #make(scope: InstanceScope, makeHosts: HostMaker): Promise<GlueInstance> {
    const hosts = makeHosts();
    hosts.enter(scope);
    const tasks = new GlueTasks(scope);
    const exports = await this.#instantiate(
      (name) => {
        const module = this.#modules.get(name);
        if (module === undefined)
          throw new ShimError(
            'internal',
            `the cache entry of component "${this.id}" has no core module "${name}"`,
          );
        return module;
      },
      hosts.imports,
      instantiateCore,
      tasks.control,
    );
    return new GlueInstance(this.id, scope, makeHosts, { hosts, exports, tasks });
  }
}

/**
 * Imports an ES module whose text is in memory: the bytes that were checked are those that run, whatever has happened to
 * the file since.
 */
async function importText(name: string, text: string): Promise<unknown> {
  const url = `spinshim-glue:${name}`;
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier === url ? { url, format: 'module', shortCircuit: true } : next(specifier, context),
    load: (loaded, context, next) =>
      loaded === url ? { format: 'module', source: text, shortCircuit: true } : next(loaded, context),
  });
  try {
    return await import(url);
  } finally {
    hooks.deregister();
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
