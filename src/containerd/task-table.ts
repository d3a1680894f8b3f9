import { ShimError } from '../error.ts';
import type { Task } from '../workload/task.ts';

/** The tasks of a host. An id is taken from the moment its creation begins. */
export class TaskTable {
  readonly #tasks = new Map<string, Task>();
  /** Ids in creation → how to give that up. */
  readonly #creating = new Map<string, AbortController>();
  readonly #onEmpty: () => void;

  /** `onEmpty` is called whenever the last task goes. */
  constructor(onEmpty: () => void = () => {}) {
    this.#onEmpty = onEmpty;
  }

  /** Tasks, and ids in creation. */
  get size(): number {
    return this.#tasks.size + this.#creating.size;
  }

  get(id: string): Task {
    const task = this.#tasks.get(id);
    if (task === undefined) throw new ShimError('not-found', `task "${id}" is not known here`);
    return task;
  }

  find(id: string): Task | undefined {
    return this.#tasks.get(id);
  }

  /**
   * Runs a creation with the id reserved and keeps its task. Throws `already-exists` for an id that is taken. The
   * signal aborts with `caller`, or when the task is deleted while it is being created.
   */
  async create(
    id: string,
    caller: AbortSignal,
    run: (signal: AbortSignal, keep: (task: Task) => void) => Promise<Task>,
  ): Promise<Task> {
    if (this.#tasks.has(id) || this.#creating.has(id)) {
      throw new ShimError('already-exists', `task "${id}" exists already`);
    }
    const controller = new AbortController();
    this.#creating.set(id, controller);
    try {
      return await run(AbortSignal.any([caller, controller.signal]), (task) => this.#tasks.set(id, task));
    } finally {
      this.#creating.delete(id);
      if (this.size === 0) this.#onEmpty();
    }
  }

  /** Gives up the creation of an id, if it is going on. */
  abortCreation(id: string): void {
    this.#creating.get(id)?.abort();
  }

  delete(id: string): void {
    this.#tasks.delete(id);
    if (this.size === 0) this.#onEmpty();
  }
}
