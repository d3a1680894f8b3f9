import { ShimError } from '../error.ts';
import type { InstanceScope } from '../host/scope.ts';
import { type AppLimits, formatDuration, limitSettings } from './app-limits.ts';

/** Places in the memory that the workers of an app share, each an Int32; then two for each worker. */
const place = { free: 0, waiting: 1, epoch: 2 } as const;
const headInts = 4;

/** Workers that can share the permits of an app. */
export const maxSharers = 128;

/**
 * Memory of the permits of an app: how many are free and how many requests wait, in all, and what of it is each worker's.
 * Made by the main thread, which takes back what a dead worker held.
 */
export class PermitLedger {
  readonly ints: Int32Array<SharedArrayBuffer>;

  private constructor(buffer: SharedArrayBuffer) {
    this.ints = new Int32Array(buffer);
  }

  /** A new one with all of `count` free. */
  static of(count: number): PermitLedger {
    const ledger = new PermitLedger(new SharedArrayBuffer(4 * (headInts + 2 * maxSharers)));
    // More requests than this are never in flight.
    Atomics.store(ledger.ints, place.free, Math.min(count, 2 ** 30));
    return ledger;
  }

  /** The worker's side of one that the main thread has made. */
  static at(buffer: SharedArrayBuffer): PermitLedger {
    return new PermitLedger(buffer);
  }

  get buffer(): SharedArrayBuffer {
    return this.ints.buffer;
  }

  /** Gives back what a worker that has died held; its number can be used again. */
  forget(worker: number): void {
    const at = headInts + 2 * worker;
    Atomics.add(this.ints, place.free, Atomics.exchange(this.ints, at, 0));
    Atomics.sub(this.ints, place.waiting, Atomics.exchange(this.ints, at + 1, 0));
    this.announce(maxSharers);
  }

  /** Tells up to `count` workers with requests that wait that a permit may be free. */
  announce(count: number): void {
    Atomics.add(this.ints, place.epoch, 1);
    Atomics.notify(this.ints, place.epoch, count);
  }
}

type Waiter = {
  readonly grant: () => void;
  readonly refuse: (reason: Error) => void;
  readonly since: number;
};

/**
 * The permits for instances, as one worker uses them: a counting semaphore that all workers of an app share, with a queue
 * of bounded length and time. In one worker first come is first served; among workers who waits longest is told first.
 */
export class Permits {
  readonly #limits: Pick<AppLimits, 'maxInstances' | 'maxWaiting' | 'queueTimeoutMs'>;
  readonly #ledger: PermitLedger;
  readonly #held: number;
  readonly #waiting = new Set<Waiter>();
  #listening = false;
  #timer: NodeJS.Timeout | undefined;

  /** `worker` is this worker's number among the sharers of the ledger. */
  constructor(
    limits: Pick<AppLimits, 'maxInstances' | 'maxWaiting' | 'queueTimeoutMs'>,
    ledger: PermitLedger = PermitLedger.of(limits.maxInstances),
    worker = 0,
  ) {
    this.#limits = limits;
    this.#ledger = ledger;
    this.#held = headInts + 2 * worker;
  }

  /** Takes a permit if one is free and nobody waits; who has it gives it back with `release`, once. */
  tryAcquire(): boolean {
    return Atomics.load(this.#ledger.ints, place.waiting) === 0 && this.#take();
  }

  #take(): boolean {
    const { ints } = this.#ledger;
    for (;;) {
      const free = Atomics.load(ints, place.free);
      if (free <= 0) return false;
      if (Atomics.compareExchange(ints, place.free, free, free - 1) !== free) continue;
      Atomics.add(ints, this.#held, 1);
      return true;
    }
  }

  /**
   * Waits for a permit. Rejects with `resource-exhausted` when the queue is full or the wait is too long, naming the
   * limit, and when the scope ends first.
   */
  async acquire(scope: InstanceScope): Promise<void> {
    if (scope.ended !== undefined) throw scope.ended;
    if (this.tryAcquire()) return;
    let refused: Error | undefined;
    await scope.wait((resolve) => {
      const waiter: Waiter = {
        since: performance.now(),
        grant: resolve,
        refuse: (reason) => {
          refused = reason;
          resolve();
        },
      };
      this.#enqueue(waiter);
      return () => this.#dequeue(waiter);
    });
    if (refused !== undefined) throw refused;
  }

  /** Gives a permit back. */
  release(): void {
    const { ints } = this.#ledger;
    const [next] = this.#waiting;
    // Handed over here unless somebody waits in another worker, who is told in his turn.
    if (next !== undefined && Atomics.load(ints, place.waiting) <= this.#waiting.size) {
      this.#dequeue(next);
      next.grant();
      return;
    }
    Atomics.sub(ints, this.#held, 1);
    Atomics.add(ints, place.free, 1);
    if (Atomics.load(ints, place.waiting) > 0) this.#ledger.announce(1);
  }

  #enqueue(waiter: Waiter): void {
    const { ints } = this.#ledger;
    const { maxInstances, maxWaiting } = this.#limits;
    if (Atomics.add(ints, place.waiting, 1) >= maxWaiting) {
      Atomics.sub(ints, place.waiting, 1);
      throw new ShimError(
        'resource-exhausted',
        `all ${maxInstances} instances (${limitSettings.maxInstances.name}) serve requests and ${maxWaiting} more requests wait (${limitSettings.maxWaiting.name})`,
      );
    }
    Atomics.add(ints, this.#held + 1, 1);
    this.#waiting.add(waiter);
    this.#armTimer();
    this.#listen();
  }

  #dequeue(waiter: Waiter): void {
    if (!this.#waiting.delete(waiter)) return;
    Atomics.sub(this.#ledger.ints, place.waiting, 1);
    Atomics.sub(this.#ledger.ints, this.#held + 1, 1);
  }

  /**
   * Serves who waits here once this worker is told that a permit may be free. Who waits longest, in whichever worker, is
   * told first; who is told in vain tells the next one.
   */
  #listen(): void {
    if (this.#listening) return;
    const { ints } = this.#ledger;
    if (this.#waiting.size > 0) {
      this.#listening = true;
      const told = Atomics.waitAsync(ints, place.epoch, Atomics.load(ints, place.epoch));
      const serve = (): void => {
        this.#listening = false;
        this.#serve();
        this.#listen();
      };
      if (told.async) void told.value.then(serve);
      else queueMicrotask(serve);
    }
    if (Atomics.load(ints, place.free) > 0 && Atomics.load(ints, place.waiting) > 0) this.#ledger.announce(1);
  }

  #serve(): void {
    for (const waiter of this.#waiting) {
      if (!this.#take()) return;
      this.#dequeue(waiter);
      waiter.grant();
    }
  }

  /** One timer for all: who waits longest is first in the queue. */
  #armTimer(): void {
    const { queueTimeoutMs } = this.#limits;
    const [first] = this.#waiting;
    if (queueTimeoutMs === 0 || first === undefined || this.#timer !== undefined) return;
    const remaining = first.since + queueTimeoutMs - performance.now();
    this.#timer = setTimeout(() => this.#expire(), Math.max(1, Math.ceil(remaining))).unref();
  }

  #expire(): void {
    this.#timer = undefined;
    const { maxInstances, queueTimeoutMs } = this.#limits;
    const before = performance.now() - queueTimeoutMs;
    for (const waiter of this.#waiting) {
      if (waiter.since > before) break;
      this.#dequeue(waiter);
      waiter.refuse(
        new ShimError(
          'resource-exhausted',
          `it waited for one of ${maxInstances} instances (${limitSettings.maxInstances.name}) for ${formatDuration(queueTimeoutMs)} (${limitSettings.queueTimeoutMs.name})`,
        ),
      );
    }
    this.#armTimer();
  }
}
