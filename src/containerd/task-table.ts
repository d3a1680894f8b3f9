import { ShimError } from '../error.ts';
import type { Task } from '../workload/task.ts';
import { LinuxTask } from './linux-task.ts';

/** A task of ours, or one that another shim runs behind our address. */
export type AnyTask = Task | LinuxTask;

/** The tasks of a host. An id is taken from the moment its creation begins. */
export class TaskTable {
  readonly #tasks = new Map<string, AnyTask>();
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

  /** A task of ours. Throws `not-found`. */
  get(id: string): Task {
    const task = this.#tasks.get(id);
    if (task === undefined || task instanceof LinuxTask) {
      throw new ShimError('not-found', `task "${id}" is not known here`);
    }
    return task;
  }

  find(id: string): AnyTask | undefined {
    return this.#tasks.get(id);
  }

  findLinux(id: string): LinuxTask | undefined {
    const task = this.#tasks.get(id);
    return task instanceof LinuxTask ? task : undefined;
  }

  /**
   * Runs a creation with the id reserved and keeps its task. Throws `already-exists` for an id that is taken. The
   * signal aborts with `caller`, or when the task is deleted while it is being created.
   */
  async create(
    id: string,
    caller: AbortSignal,
    run: (signal: AbortSignal, keep: (task: AnyTask) => void) => Promise<AnyTask>,
  ): Promise<AnyTask> {
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
