import type { RunningExec } from '../engine/engine-process.ts';
import type { CgroupStats } from './cgroup-stats.ts';
import type { SpecProcess, SpecResources } from './spec.ts';
import type { TaskStdio } from './stdio.ts';
import type { TaskExit } from './task-state.ts';

/** What a workload is made from. */
export type RootMount = {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
};

/** A process beside the workload's own one, as an exec asks for it. */
export type ExecCommand = {
  readonly id: string;
  readonly process: SpecProcess;
  readonly terminal: boolean;
  readonly stdio: TaskStdio;
};

/**
 * What runs behind a task: a Spin app, a pod's sandbox. It knows nothing of states and events; `Task` calls it only
 * in order: `create` once, then `start` at most once, at last `delete` once, whatever happened before.
 */
export interface Workload {
  /** Prepares everything and gives the pid of the process that waits for `start`. Rejects after undoing nothing: `delete` follows. */
  create(): Promise<number>;
  start(): Promise<void>;
  /** Sends a signal by number; `all` to every process of the container. */
  kill(signal: number, all: boolean): Promise<void>;
  /** Resolves when the process that `create` gave has ended. Pending for ever if `create` failed. */
  readonly exited: Promise<TaskExit>;
  /** Calls `tell` each time the kernel has killed one of its processes for want of memory. Asked once, after `create`. */
  watchMemory(tell: () => void): void;
  /** Whether that has happened since it was told last. Asked after the end, after which nothing is told any more. */
  outOfMemory(): Promise<boolean>;
  pids(): Promise<readonly number[]>;
  stats(): Promise<CgroupStats>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  update(resources: SpecResources): Promise<void>;
  /** Throws `unimplemented` if processes cannot be run beside the workload's own. */
  assertExec(): void;
  /** Runs one; it ends with the workload at the latest. Throws `unavailable` when that has ended. */
  exec(command: ExecCommand): RunningExec;
  /** Ends what still runs and frees everything: mounts, cgroups, files. Safe to call after a failed `create`. */
  delete(): Promise<void>;
}
