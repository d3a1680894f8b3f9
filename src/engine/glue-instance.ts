import { ShimError } from '../error.ts';
import type { InstanceScope } from '../host/scope.ts';
import type { GlueTasks } from './glue-task.ts';
import type { GuestInstance, HostMaker, InstanceHosts } from './guest-instance.ts';
import { lowerCamel } from './linker/host-names.ts';

/** The exports of an instance: interface name → its functions. */
export type InstanceExports = Readonly<
  Record<string, Readonly<Record<string, (...args: readonly unknown[]) => unknown>>>
>;

/** An instance over jco's glue. Its host objects work in one scope as long as it lives. */
export class GlueInstance {
  readonly scope: InstanceScope;
  readonly makeHosts: HostMaker;
  readonly tasks: GlueTasks;
  readonly #hosts: InstanceHosts;
  readonly #exports: InstanceExports;
  readonly #id: string;
  /** Requests it has served. */
  uses = 0;

  constructor(
    id: string,
    scope: InstanceScope,
    makeHosts: HostMaker,
    made: { readonly hosts: InstanceHosts; readonly exports: InstanceExports; readonly tasks: GlueTasks },
  ) {
    this.#id = id;
    this.scope = scope;
    this.makeHosts = makeHosts;
    this.#hosts = made.hosts;
    this.#exports = made.exports;
    this.tasks = made.tasks;
  }

  async call(interfaceName: string, name: string, args: readonly unknown[]): Promise<unknown> {
    const exported = this.#exports[interfaceName]?.[lowerCamel(name)];
    if (exported === undefined)
      throw new ShimError('internal', `component "${this.#id}" lost its export "${interfaceName}#${name}"`);
    return exported(...args);
  }

  /** It will serve no request any more. */
  end(reason: Error): void {
    this.scope.end(reason);
    this.#hosts.leave();
  }
}

/** How long an instance is kept for requests that come one after another. */
export type ReuseLimits = {
  /** Requests that one instance serves. jco keeps some 100 KB of each until the instance goes. */
  readonly maxUses: number;
  /** How long an instance waits for the next request, milliseconds. */
  readonly idleMs: number;
  /** Instances that wait. */
  readonly maxIdle: number;
};

/** Spin keeps an instance for 128 requests, 16 at a time, and for 1 s without any (reference/spin.md 3.1.7). */
export const defaultReuseLimits: ReuseLimits = { maxUses: 32, idleMs: 1_000, maxIdle: 16 };

const retired = new Error('the instance is retired');

/** Instances that wait for their next request; each has served some, to the end and without a failure. */
export class GluePool {
  readonly #limits: ReuseLimits;
  readonly #waiting = new Map<GlueInstance, NodeJS.Timeout>();

  constructor(limits: ReuseLimits = defaultReuseLimits) {
    this.#limits = limits;
  }

  /** Instances that wait; for tests. */
  get idle(): number {
    return this.#waiting.size;
  }

  /** Takes one whose host objects this maker has made. */
  take(makeHosts: HostMaker): GlueInstance | undefined {
    for (const [instance, timer] of this.#waiting) {
      if (instance.makeHosts !== makeHosts) continue;
      clearTimeout(timer);
      this.#waiting.delete(instance);
      return instance;
    }
    return undefined;
  }

  /**
   * Lends an instance to one request: when the request's scope ends before it is given back, the instance ends with it,
   * and with it every wait of the guest.
   */
  lend(instance: GlueInstance, request: InstanceScope): GuestInstance {
    const leash: Disposable = {
      [Symbol.dispose]: () => instance.end(request.ended ?? retired),
    };
    request.adopt(leash);
    return {
      scope: instance.scope,
      call: (interfaceName, name, args) => instance.call(interfaceName, name, args),
      ended: () => instance.tasks.ended(),
      release: (clean) => {
        request.release(leash);
        instance.uses += 1;
        if (clean) this.#keep(instance);
        else instance.end(request.ended ?? retired);
      },
    };
  }

  #keep(instance: GlueInstance): void {
    const { maxUses, maxIdle, idleMs } = this.#limits;
    const fit = instance.tasks.idle && instance.scope.ended === undefined && instance.uses < maxUses;
    if (!fit || this.#waiting.size >= maxIdle) {
      instance.end(retired);
      return;
    }
    const timer = setTimeout(() => {
      this.#waiting.delete(instance);
      instance.end(retired);
    }, idleMs);
    timer.unref();
    this.#waiting.set(instance, timer);
  }
}
