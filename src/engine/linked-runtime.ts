import { ShimError } from '../error.ts';
import type { InstanceScope } from '../host/scope.ts';
import type {
  ComponentRuntime,
  GuestInstance,
  HostMaker,
  ImportObject,
  InstanceHosts,
} from './guest-instance.ts';
import type { CompiledPlan } from './linker/compiled-plan.ts';
import { type KeptImage, LinkedComponent } from './linker/linked-component.ts';
import type { LinkedInstance } from './linker/linked-instance.ts';

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
 * Host functions that start-up code may have called and the instance still be restored to what that code left: what they
 * answer never changes. A restored guest would otherwise see the random bytes and the time of another request, and what it printed
 * at its start would be missing.
 */
const constantAtStart = new Set([
  'wasi:cli/environment#get-environment',
  'wasi:cli/environment#get-arguments',
  'wasi:cli/environment#initial-cwd',
]);

/**
 * What an instance goes back to for its next request: its state after its start-up code; that before, so that this code
 * runs again and sees the time and random bytes of the request it is for; or nothing, since it cannot be put back.
 */
export type RestorePoint = 'after-start' | 'before-start' | 'never';

type Pooled = {
  readonly instance: LinkedInstance;
  readonly restorePoint: RestorePoint;
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
  #restorePoint: RestorePoint;
  #idle: Pooled[] = [];
  #idleBytes = 0;

  /** `restorable` is the verdict of the plan's making; how far back instances go is seen from the first ones' start. */
  constructor(
    id: string,
    plan: CompiledPlan,
    modules: readonly WebAssembly.Module[],
    restorable: boolean,
    limits: PoolLimits = defaultPoolLimits,
    start?: KeptImage,
  ) {
    this.id = id;
    this.#component = new LinkedComponent(plan, modules, start);
    this.#restorePoint = restorable ? 'after-start' : 'never';
    this.#limits = limits;
  }

  /** How far back its instances go, as far as that is known; for tests. */
  get restorePoint(): RestorePoint {
    return this.#restorePoint;
  }

  get idle(): number {
    return this.#idle.length;
  }

  /** The instances that wait, restored; for tests. */
  get waiting(): readonly LinkedInstance[] {
    return this.#idle.map(({ instance }) => instance);
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
    const lease = new Lease(this, pooled);
    return pooled.restorePoint === 'before-start' ? pooled.instance.initialize().then(() => lease) : lease;
  }

  async #make(scope: InstanceScope, makeHosts: HostMaker): Promise<GuestInstance> {
    const hosts = makeHosts();
    hosts.enter(scope);
    const [instance, restorePoint] =
      this.#restorePoint === 'before-start'
        ? await this.#makeBeforeStart(hosts.imports)
        : await this.#makeAfterStart(hosts.imports);
    return new Lease(this, { instance, restorePoint, makeHosts, hosts, uses: 0, idleBytes: 0 });
  }

  async #makeAfterStart(imports: ImportObject): Promise<[LinkedInstance, RestorePoint]> {
    const instance = await this.#component.start(imports);
    if (this.#restorePoint !== 'after-start') return [instance, 'never'];
    if (hasConstantStart(instance) && instance.snapshot().ok) return [instance, 'after-start'];
    this.#restorePoint = 'before-start';
    return [instance, 'never'];
  }

  async #makeBeforeStart(imports: ImportObject): Promise<[LinkedInstance, RestorePoint]> {
    const instance = this.#component.begin(imports);
    const isKept = instance.hasInitializers && hasConstantStart(instance) && instance.snapshot().ok;
    if (!isKept) this.#restorePoint = 'never';
    await instance.initialize();
    return [instance, isKept ? 'before-start' : 'never'];
  }

  /** Takes an instance back whose request is over; `clean` tells that its call returned. */
  takeBack(pooled: Pooled, clean: boolean): void {
    pooled.uses += 1;
    // No host object of the last request stays within reach: the handles go, what is left works in no scope.
    pooled.hosts.leave();
    const { instance, uses } = pooled;
    if (
      !clean ||
      pooled.restorePoint === 'never' ||
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

function hasConstantStart({ startCalls }: LinkedInstance): boolean {
  return startCalls.every((call) => constantAtStart.has(withoutVersion(call)));
}

/** `wasi:cli/environment@0.2.0#f` → `wasi:cli/environment#f`. */
function withoutVersion(call: string): string {
  const hash = call.indexOf('#');
  const at = call.indexOf('@');
  return at < 0 || at > hash ? call : call.slice(0, at) + call.slice(hash);
}
