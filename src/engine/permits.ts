import { ShimError } from '../error.ts';
import type { GoneSignal } from '../host/http-exchange.ts';

/** Instances of an app alive at once in one worker; Spin's own default (SPIN_MAX_INSTANCE_COUNT). */
export const defaultMaxInstances = 1000;

/** Requests that wait for an instance at once. */
export const defaultMaxWaiting = 10_000;

type Waiter = { readonly grant: () => void };

/** A counting semaphore with a bounded queue, first come first served. */
export class Permits {
  readonly #maxWaiting: number;
  #free: number;
  readonly #waiting = new Set<Waiter>();

  constructor(count: number = defaultMaxInstances, maxWaiting: number = defaultMaxWaiting) {
    this.#free = count;
    this.#maxWaiting = maxWaiting;
  }

  /**
   * Waits for a permit and returns what gives it back. Rejects with `resource-exhausted` when the queue is full, and
   * when `signal` aborts first.
   */
  async acquire(signal: GoneSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#release();
    };
  }

  #wait(signal: GoneSignal): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting) {
      throw new ShimError(
        'resource-exhausted',
        `${this.#waiting.size} requests wait for an instance already, the limit is ${this.#maxWaiting}`,
      );
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.delete(waiter);
        reject(signal.reason as Error);
      };
      const waiter: Waiter = {
        grant: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(waiter);
    });
  }

  #release(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next.grant();
  }
}
