import type { InstanceScope } from '../host/scope.ts';
import type { GlueControl } from './glue-async-patches.ts';

/**
 * The tasks of one instance with the async ABI: a task goes on after its function has returned, and when the request's
 * scope ends so does every wait of the instance.
 */
export class GlueTasks {
  readonly control: GlueControl;
  #over = Promise.withResolvers<void>();
  #running = 0;
  #failed = false;

  constructor(scope: InstanceScope) {
    this.control = {
      isBusy: () => scope.pendingWaits > 0,
      started: () => {
        if (this.#running === 0) this.#renew();
        this.#running += 1;
      },
      exited: () => {
        this.#running -= 1;
        if (this.#running === 0 && !this.#failed) this.#over.resolve();
      },
      failed: (error) => {
        if (this.#running === 0) this.#renew();
        this.#failed = true;
        this.#over.reject(error);
      },
    };
    scope.adopt({
      [Symbol.dispose]: () => this.control.end?.(scope.ended ?? new Error('the request is over')),
    });
  }

  /** Whether nothing runs and nothing has failed. */
  get idle(): boolean {
    return this.#running === 0 && !this.#failed;
  }

  /** Settles when no task runs any more; rejects with what the first one that failed has failed with. */
  ended(): Promise<void> {
    return this.idle ? Promise.resolve() : this.#over.promise;
  }

  #renew(): void {
    this.#over = Promise.withResolvers<void>();
    this.#over.promise.catch(() => {});
  }
}
