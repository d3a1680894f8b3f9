import { ShimError } from '../error.ts';
import type { CgroupStats } from './cgroup-stats.ts';
import { type ExecOptions, ExecProcess } from './exec-process.ts';
import { Lock } from './lock.ts';
import type { SpecResources } from './spec.ts';
import type { StdioPaths, TaskStdio } from './stdio.ts';
import { assertAllowed, type TaskExit, type TaskState } from './task-state.ts';
import type { Workload } from './workload.ts';

/** Told what happens to a task, in the order it happens; each exactly once per cause. */
export type TaskObserver = {
  created(task: Task): void;
  started(task: Task): void;
  outOfMemory(task: Task): void;
  exited(task: Task, exit: TaskExit): void;
  paused(task: Task): void;
  resumed(task: Task): void;
  execAdded(exec: ExecProcess): void;
  execStarted(exec: ExecProcess): void;
  execExited(exec: ExecProcess, exit: TaskExit): void;
};

/** Processes that a task may have beside its own at once, from their Exec to their Delete. */
export const maxExecs = 64;

export type TaskOptions = {
  readonly id: string;
  /** Absolute path of the bundle. */
  readonly bundle: string;
  readonly stdioPaths: StdioPaths;
  readonly stdio: TaskStdio;
  readonly workload: Workload;
  readonly observer: TaskObserver;
};

/**
 * A created task: its state, and the order of what may be done to it. Operations that change it run one at a time;
 * `state`, `exit` and `kill` wait for none of them.
 */
export class Task {
  readonly id: string;
  readonly bundle: string;
  readonly stdioPaths: StdioPaths;
  readonly pid: number;
  /** Resolves when the task has ended. */
  readonly exit: Promise<TaskExit>;
  readonly #stdio: TaskStdio;
  readonly #workload: Workload;
  readonly #observer: TaskObserver;
  readonly #lock = new Lock();
  readonly #execs = new Map<string, ExecProcess>();
  #state: TaskState = { kind: 'created' };
  #freeing: Promise<void> | undefined;

  private constructor(options: TaskOptions, pid: number) {
    this.id = options.id;
    this.bundle = options.bundle;
    this.stdioPaths = options.stdioPaths;
    this.pid = pid;
    this.#stdio = options.stdio;
    this.#workload = options.workload;
    this.#observer = options.observer;
    this.exit = this.#watch();
  }

  /**
   * Creates the workload. If that fails everything is undone, the reason goes into the container's standard error and
   * is thrown; there is no exit then.
   */
  static async create(options: TaskOptions): Promise<Task> {
    const { workload, stdio, observer } = options;
    try {
      const task = new Task(options, await workload.create());
      observer.created(task);
      workload.watchMemory(() => task.#outOfMemory());
      return task;
    } catch (error) {
      const reason = ShimError.from(error);
      const told = stdio.tellReason(reason.message);
      await workload.delete().catch(() => {});
      await told;
      void stdio.close();
      throw reason;
    }
  }

  get state(): TaskState {
    return this.#state;
  }

  /** Starts the workload. A start that fails ends the task; the reason is thrown and in the container's standard error. */
  start(): Promise<void> {
    return this.#lock.run(async () => {
      this.#assert('start');
      try {
        await this.#workload.start();
      } catch (error) {
        const reason = ShimError.from(error);
        this.#stdio.writeReason(reason.message);
        await this.#workload.kill(9, true).catch(() => {});
        throw reason;
      }
      // It may have ended meanwhile: the exit then waits behind this lock, so that nobody hears of it before the start.
      this.#state = { kind: 'running' };
      this.#observer.started(this);
    });
  }

  /** Sends a signal. Throws `not-found` if the task has ended. */
  async kill(signal: number, all: boolean): Promise<void> {
    this.#assert('kill');
    await this.#workload.kill(signal, all);
  }

  pause(): Promise<void> {
    return this.#lock.run(async () => {
      this.#assert('pause');
      await this.#workload.pause();
      this.#state = { kind: 'paused' };
      this.#observer.paused(this);
    });
  }

  resume(): Promise<void> {
    return this.#lock.run(async () => {
      this.#assert('resume');
      await this.#workload.resume();
      this.#state = { kind: 'running' };
      this.#observer.resumed(this);
    });
  }

  update(resources: SpecResources): Promise<void> {
    return this.#lock.run(async () => {
      this.#assert('update');
      await this.#workload.update(resources);
    });
  }

  /** Pids of the task, never none. */
  async pids(): Promise<readonly number[]> {
    const live = this.#state.kind === 'stopped' ? [] : await this.#workload.pids();
    return live.length === 0 ? [this.pid] : live;
  }

  stats(): Promise<CgroupStats> {
    return this.#workload.stats();
  }

  /**
   * Adds a process without starting it. Throws `already-exists` for an id that is taken, `resource-exhausted` when
   * there are `maxExecs`, `unimplemented` if the workload runs none, `failed-precondition` if it does not run itself.
   */
  addExec(options: ExecOptions): ExecProcess {
    const { id } = options;
    this.#workload.assertExec();
    this.#assert('exec');
    if (this.#execs.has(id)) {
      throw new ShimError('already-exists', `task "${this.id}" has a process "${id}" already`);
    }
    if (this.#execs.size >= maxExecs) {
      throw new ShimError(
        'resource-exhausted',
        `task "${this.id}" has ${this.#execs.size} processes beside its own, the limit "maxExecs" is ${maxExecs}: end some of them`,
      );
    }
    const exec = new ExecProcess(options, this.#workload, {
      started: (process) => this.#observer.execStarted(process),
      exited: (process, exit) => this.#observer.execExited(process, exit),
    });
    this.#execs.set(id, exec);
    this.#observer.execAdded(exec);
    return exec;
  }

  /** Throws `not-found`. */
  exec(id: string): ExecProcess {
    const exec = this.#execs.get(id);
    if (exec === undefined) throw new ShimError('not-found', `task "${this.id}" has no process "${id}"`);
    return exec;
  }

  /** Throws what `ExecProcess.start` throws, and `failed-precondition` if the workload does not run any more. */
  async startExec(id: string): Promise<ExecProcess> {
    const exec = this.exec(id);
    this.#assert('exec');
    await exec.start();
    return exec;
  }

  /** Gives how it ended; undefined if it was never started. Throws `failed-precondition` while it runs. */
  async deleteExec(id: string): Promise<TaskExit | undefined> {
    const exit = await this.exec(id).delete();
    this.#execs.delete(id);
    return exit;
  }

  /** Frees everything the task holds; a created one is ended first. Gives how it ended. */
  delete(): Promise<TaskExit> {
    const end = this.#lock.run(async () => {
      this.#assert('delete');
      if (this.#state.kind === 'created') await this.#workload.kill(9, true);
    });
    // Outside the lock, since the exit takes its place behind it.
    return end.then(async () => {
      const exit = await this.exit;
      this.#freeing ??= this.#free();
      await this.#freeing;
      return exit;
    });
  }

  async #free(): Promise<void> {
    try {
      await this.#workload.delete();
      await this.#stdio.close();
    } finally {
      this.#freeing = undefined;
    }
  }

  /** Not after the end: nobody is to hear of the task any more. */
  #outOfMemory(): void {
    if (this.#state.kind !== 'stopped') this.#observer.outOfMemory(this);
  }

  #assert(operation: Parameters<typeof assertAllowed>[1]): void {
    assertAllowed(this.#state, operation, this.id);
  }

  async #watch(): Promise<TaskExit> {
    const exit = await this.#workload.exited;
    if (exit.reason !== undefined) this.#stdio.writeReason(exit.reason);
    // At once, not in #free: the client waits for the end of its copies, and they for ours.
    void this.#stdio.close();
    return this.#lock.run(async () => {
      // They ended with it; nobody is to hear of its end before theirs.
      await Promise.all([...this.#execs.values()].map((exec) => exec.ended()));
      const killed = await this.#workload.outOfMemory().catch(() => false);
      if (killed && exit.exitCode === 137) this.#outOfMemory();
      this.#state = { kind: 'stopped', exit };
      this.#observer.exited(this, exit);
      return exit;
    });
  }
}
