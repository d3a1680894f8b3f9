import { ShimError } from '../error.ts';
import type { ComponentRuntime, GuestInstance, ImportObject } from './guest-instance.ts';
import { LinkedComponent } from './linker/linked-component.ts';
import type { LinkedInstance } from './linker/linked-instance.ts';
import type { LinkPlan } from './linker/plan.ts';

/** How long and how many restored instances of a component are kept in one worker. */
export type PoolLimits = {
  /** Instances that wait for a request. */
  readonly maxIdle: number;
  /** Bytes of linear memory of all that wait. */
  readonly maxIdleBytes: number;
  /** Linear memory above which an instance is not kept, bytes: restoring it costs more than a new one. */
  readonly maxInstanceBytes: number;
  /** Requests after which an instance is thrown away. */
  readonly maxUses: number;
};

/** Limits that suit a small node. */
export const defaultPoolLimits: PoolLimits = {
  maxIdle: 100,
  maxIdleBytes: 128 * 1024 * 1024,
  maxInstanceBytes: 64 * 1024 * 1024,
  maxUses: 10_000,
};

/**
 * Host functions that start-up code may have called and the instance still be restored: what they answer never
 * changes. A restored guest would otherwise see the random bytes and the time of another request, and what it printed
 * at its start would be missing.
 */
const constantAtStart = new Set([
  'wasi:cli/environment#get-environment',
  'wasi:cli/environment#get-arguments',
  'wasi:cli/environment#initial-cwd',
]);

type Pooled = { readonly instance: LinkedInstance; uses: number };

/**
 * A component linked by us. Instances that can go back to their state after instantiation (memory, globals, handles)
 * wait for the next request; every request meets one in its first state, and never one that another request has.
 */
export class LinkedRuntime implements ComponentRuntime {
  readonly id: string;
  readonly #component: LinkedComponent;
  readonly #limits: PoolLimits;
  #restorable: boolean;
  #idle: Pooled[] = [];
  #idleBytes = 0;

  /** `restorable` is the verdict of the plan's making; start-up code that asks for time or random bytes overrules it. */
  constructor(
    id: string,
    plan: LinkPlan,
    modules: readonly WebAssembly.Module[],
    restorable: boolean,
    limits: PoolLimits = defaultPoolLimits,
  ) {
    this.id = id;
    this.#component = new LinkedComponent(plan, modules);
    this.#restorable = restorable;
    this.#limits = limits;
  }

  /** Instances that wait; for tests. */
  get idle(): number {
    return this.#idle.length;
  }

  missingFunctions(imports: ImportObject): readonly string[] {
    return this.#component.missingFunctions(imports);
  }

  async acquire(imports: ImportObject): Promise<GuestInstance> {
    const pooled = this.#idle.pop();
    if (pooled === undefined) return this.#lease({ instance: await this.#make(imports), uses: 0 });
    this.#idleBytes -= pooled.instance.memoryBytes;
    pooled.instance.attach(imports);
    return this.#lease(pooled);
  }

  async #make(imports: ImportObject): Promise<LinkedInstance> {
    const instance = await this.#component.start(imports);
    if (!this.#restorable) return instance;
    const snapshot = instance.snapshot();
    this.#restorable =
      snapshot.ok && snapshot.startCalls.every((call) => constantAtStart.has(withoutVersion(call)));
    return instance;
  }

  #lease(pooled: Pooled): GuestInstance {
    const { instance } = pooled;
    let released = false;
    return {
      call: (interfaceName, name, args) => instance.call(interfaceName, name, args),
      release: (clean) => {
        if (released) throw new ShimError('internal', `an instance of "${this.id}" was given back twice`);
        released = true;
        pooled.uses += 1;
        if (clean && this.#keeps(pooled)) this.#keep(pooled);
      },
    };
  }

  #keeps({ instance, uses }: Pooled): boolean {
    const { maxIdle, maxIdleBytes, maxInstanceBytes, maxUses } = this.#limits;
    return (
      this.#restorable &&
      instance.dead === undefined &&
      uses < maxUses &&
      instance.memoryBytes <= maxInstanceBytes &&
      this.#idle.length < maxIdle &&
      this.#idleBytes + instance.memoryBytes <= maxIdleBytes
    );
  }

  #keep(pooled: Pooled): void {
    pooled.instance.restore();
    // No host object of the last request stays within reach.
    pooled.instance.attach(nothing);
    this.#idle.push(pooled);
    this.#idleBytes += pooled.instance.memoryBytes;
  }
}

const nothing: ImportObject = Object.freeze(Object.create(null) as Record<string, object>);

/** `wasi:cli/environment@0.2.0#f` → `wasi:cli/environment#f`. */
function withoutVersion(call: string): string {
  const hash = call.indexOf('#');
  const at = call.indexOf('@');
  return at < 0 || at > hash ? call : call.slice(0, at) + call.slice(hash);
}
