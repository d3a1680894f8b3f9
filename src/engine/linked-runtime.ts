import { ShimError } from '../error.ts';
import type { InstanceScope } from '../host/scope.ts';
import type {
  ComponentRuntime,
  GuestInstance,
  HostMaker,
  ImportObject,
  InstanceHosts,
} from './guest-instance.ts';
import { type KeptImage, LinkedComponent } from './linker/linked-component.ts';
import type { LinkedInstance } from './linker/linked-instance.ts';
import type { LinkPlan } from './linker/plan.ts';

/** How long and how many restored instances of a component are kept in one worker. */
export type PoolLimits = {
  /** Instances that wait for a request. */
  readonly maxIdle: number;
  /** Bytes that all that wait take for themselves; what they share with one another does not count. */
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

type Pooled = {
  readonly instance: LinkedInstance;
  readonly makeHosts: HostMaker;
  readonly hosts: InstanceHosts;
  uses: number;
  /** Memory it takes while it waits, bytes: of a mapped memory what it has written to, of another all. */
  idleBytes: number;
};

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
    start?: KeptImage,
  ) {
    this.id = id;
    this.#component = new LinkedComponent(plan, modules, { start });
    this.#restorable = restorable;
    this.#limits = limits;
  }

  get idle(): number {
    return this.#idle.length;
  }

  missingFunctions(imports: ImportObject): readonly string[] {
    return this.#component.missingFunctions(imports);
  }

  acquire(scope: InstanceScope, makeHosts: HostMaker): GuestInstance | Promise<GuestInstance> {
    const idle = this.#idle.pop();
    if (idle === undefined) return this.#make(scope, makeHosts);
    this.#idleBytes -= idle.idleBytes;
    const pooled = idle.makeHosts === makeHosts ? idle : { ...idle, makeHosts, hosts: makeHosts() };
    if (pooled !== idle) pooled.instance.attach(pooled.hosts.imports);
    pooled.hosts.enter(scope);
    return new Lease(this, pooled);
  }

  async #make(scope: InstanceScope, makeHosts: HostMaker): Promise<GuestInstance> {
    const hosts = makeHosts();
    hosts.enter(scope);
    const instance = await this.#component.start(hosts.imports);
    if (this.#restorable) {
      const snapshot = instance.snapshot();
      this.#restorable =
        snapshot.ok && snapshot.startCalls.every((call) => constantAtStart.has(withoutVersion(call)));
    }
    return new Lease(this, { instance, makeHosts, hosts, uses: 0, idleBytes: 0 });
  }

  /** Takes an instance back whose request is over; `clean` tells that its call returned. */
  takeBack(pooled: Pooled, clean: boolean): void {
    pooled.uses += 1;
    // No host object of the last request stays within reach: the handles go, what is left works in no scope.
    pooled.hosts.leave();
    const { instance, uses } = pooled;
    if (
      !clean ||
      !this.#restorable ||
      instance.dead !== undefined ||
      instance.outgrown ||
      uses >= this.#limits.maxUses
    )
      return;
    const { maxIdle, maxIdleBytes, maxInstanceBytes } = this.#limits;
    if (instance.memoryBytes > maxInstanceBytes || this.#idle.length >= maxIdle) return;
    pooled.idleBytes = instance.restore();
    if (this.#idleBytes + pooled.idleBytes > maxIdleBytes) return;
    this.#idle.push(pooled);
    this.#idleBytes += pooled.idleBytes;
  }
}

/** An instance in the hands of one request. */
class Lease implements GuestInstance {
  readonly #runtime: LinkedRuntime;
  readonly #pooled: Pooled;
  #released = false;

  constructor(runtime: LinkedRuntime, pooled: Pooled) {
    this.#runtime = runtime;
    this.#pooled = pooled;
  }

  call(interfaceName: string, name: string, args: readonly unknown[]): Promise<unknown> {
    return this.#pooled.instance.call(interfaceName, name, args);
  }

  /** Functions of 0.2 are over when they return. */
  ended(): Promise<void> {
    return Promise.resolve();
  }

  release(clean: boolean): void {
    if (this.#released)
      throw new ShimError('internal', `an instance of "${this.#runtime.id}" was given back twice`);
    this.#released = true;
    this.#runtime.takeBack(this.#pooled, clean);
  }
}

/** `wasi:cli/environment@0.2.0#f` → `wasi:cli/environment#f`. */
function withoutVersion(call: string): string {
  const hash = call.indexOf('#');
  const at = call.indexOf('@');
  return at < 0 || at > hash ? call : call.slice(0, at) + call.slice(hash);
}
