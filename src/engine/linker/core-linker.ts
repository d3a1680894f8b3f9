import { ShimError } from '../../error.ts';
import { CanonContext } from './canon-context.ts';
import type { BoundImport } from './import-call.ts';
import type { InstanceState } from './instance-state.ts';
import type { CanonOptions, CoreFunctionPlan, CoreSort, LinkPlan } from './plan.ts';
import { memoryExport } from './rewrite-module.ts';

type CoreExports = Readonly<Record<string, unknown>>;

/** Name of the function by which a preview 1 reactor runs its constructors. */
const initializer = '_initialize';

/** The core side of one instance: core modules instantiated in the plan's order, everything else resolved on demand. */
export class CoreLinker {
  readonly #plan: LinkPlan;
  readonly #state: InstanceState;
  readonly #boundImports: readonly (BoundImport | undefined)[];
  readonly #functions: unknown[] = [];
  readonly #contexts: CanonContext[] = [];
  readonly #contextKeys: [memory: number | null, realloc: number | null][] = [];
  /** Exports of the core instances, by index. */
  readonly instances: CoreExports[] = [];
  /** `_initialize` functions that were put off, in order. */
  readonly putOff: unknown[] = [];

  constructor(plan: LinkPlan, state: InstanceState, boundImports: readonly (BoundImport | undefined)[]) {
    this.#plan = plan;
    this.#state = state;
    this.#boundImports = boundImports;
  }

  /**
   * Instantiates everything; core start functions run here. What a module gets as another's `_initialize` is called by its
   * start function, where nothing may wait: with `putOff` it gets one that does nothing, and the real one is kept.
   * `fillMemory` is told of the memory whose state is exported.
   */
  instantiate(
    modules: readonly WebAssembly.Module[],
    putOff: boolean,
    fillMemory: (module: number, memory: WebAssembly.Memory) => void,
  ): void {
    this.#state.destructors.push(
      ...this.#plan.resources.map((resource, index) => this.#destructor(index, resource)),
    );
    for (const instance of this.#plan.coreInstances) {
      if (instance.kind === 'exports') {
        const exports = Object.create(null) as Record<string, unknown>;
        for (const [name, sort, index] of instance.exports) exports[name] = this.#item(sort, index);
        this.instances.push(exports);
        continue;
      }
      const imports = Object.create(null) as Record<string, CoreExports>;
      for (const [name, index] of instance.args)
        imports[name] = putOff ? this.#withoutInitializer(index) : this.#instance(index);
      const module = modules[instance.module];
      if (module === undefined)
        throw new ShimError('internal', 'the link plan names a module that is not there');
      const { exports } = new WebAssembly.Instance(module, imports as WebAssembly.Imports);
      this.instances.push(exports);
      if (Object.hasOwn(exports, memoryExport))
        fillMemory(instance.module, exports[memoryExport] as WebAssembly.Memory);
    }
  }

  /** The exports of an instance, its initializers exchanged, by whatever name tools pass them on. */
  #withoutInitializer(index: number): CoreExports {
    const exports = this.#instance(index);
    const plan = this.#plan.coreInstances[index];
    const names =
      plan?.kind === 'exports'
        ? plan.exports.filter(([, sort, item]) => sort === 'function' && this.#isInitializer(item))
        : [[initializer] as const];
    const real = names.flatMap(([name]) => (typeof exports[name] === 'function' ? [name] : []));
    if (real.length === 0) return exports;
    for (const name of real) if (!this.putOff.includes(exports[name])) this.putOff.push(exports[name]);
    return { ...exports, ...Object.fromEntries(real.map((name) => [name, () => {}])) };
  }

  #isInitializer(index: number): boolean {
    const plan = this.#plan.coreFunctions[index];
    return plan?.kind === 'alias' && plan.name === initializer;
  }

  #destructor(
    index: number,
    resource: LinkPlan['resources'][number],
  ): ((rep: number) => unknown) | undefined {
    if (resource.kind !== 'own' || resource.destructor === null) return undefined;
    const { destructor } = resource;
    let found: unknown;
    return (rep) => {
      found ??= this.function(destructor);
      if (typeof found !== 'function') throw new ShimError('internal', `resource ${index} has no destructor`);
      return found(rep);
    };
  }

  /** A core function by index. */
  function(index: number): unknown {
    const known = this.#functions[index];
    if (known !== undefined) return known;
    const plan = this.#plan.coreFunctions[index];
    if (plan === undefined) throw new ShimError('internal', `the link plan has no core function ${index}`);
    const made = this.#makeFunction(plan, index);
    this.#functions[index] = made;
    return made;
  }

  #makeFunction(plan: CoreFunctionPlan, index: number): unknown {
    const state = this.#state;
    switch (plan.kind) {
      case 'alias': {
        const found = this.#instance(plan.instance)[plan.name];
        if (found === undefined)
          throw new ShimError('invalid-component', `a core instance does not export "${plan.name}"`);
        return found;
      }
      case 'lower': {
        const bind = this.#boundImports[index];
        if (bind === undefined) throw new ShimError('internal', `core function ${index} was not compiled`);
        return bind(this.context(plan.options));
      }
      case 'resource.drop':
        return dropFunction(state, plan.resource);
      case 'resource.new':
        return (rep: number) => guarded(state, () => state.handles.addOwn(plan.resource, rep));
      case 'resource.rep':
        return (handle: number) => guarded(state, () => state.handles.get(handle, plan.resource).value);
      default:
        return plan satisfies never;
    }
  }

  /** The context of functions with these options; one for each pair of memory and allocator. */
  context({ memory, realloc }: CanonOptions): CanonContext {
    const known = this.#contextKeys.findIndex((key) => key[0] === memory && key[1] === realloc);
    const before = this.#contexts[known];
    if (before !== undefined) return before;
    const made = new CanonContext(
      this.#state,
      memory === null ? undefined : (this.#item('memory', memory) as WebAssembly.Memory),
      realloc === null ? undefined : (this.function(realloc) as never),
    );
    this.#contextKeys.push([memory, realloc]);
    this.#contexts.push(made);
    return made;
  }

  #instance(index: number): CoreExports {
    const instance = this.instances[index];
    if (instance === undefined)
      throw new ShimError('internal', `the link plan uses core instance ${index} too early`);
    return instance;
  }

  #item(sort: CoreSort, index: number): unknown {
    if (sort === 'function') return this.function(index);
    const space = { table: this.#plan.tables, memory: this.#plan.memories, global: this.#plan.globals }[sort];
    const alias = space[index];
    if (alias === undefined) throw new ShimError('internal', `the link plan has no ${sort} ${index}`);
    return this.#instance(alias.instance)[alias.name];
  }
}

function dropFunction(state: InstanceState, resource: number): (handle: number) => void {
  return (handle) => {
    try {
      state.checkLeave();
      const entry = state.handles.drop(handle, resource);
      if (entry.call !== undefined) return;
      const destructor = state.destructors[resource];
      if (destructor !== undefined) destructor(entry.value as number);
      else if (typeof entry.value === 'object') (entry.value as Partial<Disposable>)[Symbol.dispose]?.();
    } catch (thrown) {
      throw state.fail(thrown);
    }
  };
}

function guarded<T>(state: InstanceState, action: () => T): T {
  try {
    state.checkLeave();
    return action();
  } catch (thrown) {
    throw state.fail(thrown);
  }
}
