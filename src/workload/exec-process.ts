import { mkdir, rm } from 'node:fs/promises';
import type { RunningExec, TerminalSize } from '../engine/engine-process.ts';
import { ShimError } from '../error.ts';
import { Lock } from './lock.ts';
import { isLogDriver, type LogOwner } from './log-driver.ts';
import type { SpecProcess } from './spec.ts';
import { type StdioPaths, TaskStdio } from './stdio.ts';
import type { TaskExit } from './task-state.ts';
import type { Workload } from './workload.ts';

/** What those are told who wait for a process that is deleted before it ran. */
const neverRanExitCode = 137;

/** Where a process of an exec is in its life. */
export type ExecState =
  | { readonly kind: 'created' }
  | { readonly kind: 'running'; readonly running: RunningExec; readonly stdio: TaskStdio }
  | { readonly kind: 'stopped'; readonly exit: TaskExit }
  /** Deleted without having run. */
  | { readonly kind: 'dropped' };

/** Told what happens to a process, in order. */
export type ExecObserver = {
  started(exec: ExecProcess): void;
  exited(exec: ExecProcess, exit: TaskExit): void;
};

export type ExecOptions = {
  readonly id: string;
  readonly process: SpecProcess;
  readonly terminal: boolean;
  readonly stdioPaths: StdioPaths;
  /** For a log driver; its directory is made for one, and goes with the process. */
  readonly owner: LogOwner;
};

/** A process that was added to a running task (containerd.md 3.2). Its operations run one at a time; `kill` waits for none. */
export class ExecProcess {
  readonly id: string;
  readonly terminal: boolean;
  readonly stdioPaths: StdioPaths;
  /** Resolves when the process has ended. */
  readonly exit: Promise<TaskExit>;
  readonly #process: SpecProcess;
  readonly #owner: LogOwner;
  readonly #workload: Workload;
  readonly #observer: ExecObserver;
  readonly #lock = new Lock();
  readonly #settleExit: (exit: TaskExit) => void;
  #state: ExecState = { kind: 'created' };
  #pid = 0;
  #closing: Promise<void> | undefined;
  /** What the client said before there was a process to tell it to. */
  #size: TerminalSize | undefined;
  #stdinClosed = false;

  constructor(options: ExecOptions, workload: Workload, observer: ExecObserver) {
    this.id = options.id;
    this.terminal = options.terminal;
    this.stdioPaths = options.stdioPaths;
    this.#process = options.process;
    this.#owner = options.owner;
    this.#workload = workload;
    this.#observer = observer;
    const { promise, resolve } = Promise.withResolvers<TaskExit>();
    this.exit = promise;
    this.#settleExit = resolve;
  }

  get state(): ExecState {
    return this.#state;
  }

  /** 0 until it has been started. */
  get pid(): number {
    return this.#pid;
  }

  /** Opens the streams and runs it. Throws `failed-precondition` the second time; a failed start may be tried again. */
  start(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#state.kind !== 'created') throw this.#refusal(`cannot start a ${this.#state.kind} process`);
      const stdio = await this.#openStdio();
      let running: RunningExec;
      try {
        const { id, terminal } = this;
        running = this.#workload.exec({ id, terminal, process: this.#process, stdio });
      } catch (error) {
        void this.#closeStdio(stdio, 0);
        throw error;
      }
      if (this.#size !== undefined) running.resize(this.#size);
      if (this.#stdinClosed) stdio.closeStdin();
      this.#pid = running.pid;
      this.#state = { kind: 'running', running, stdio };
      this.#observer.started(this);
      void running.exited.then((exitCode) => this.#end(stdio, { exitCode, exitedAt: new Date() }));
    });
  }

  /** Sends a signal. Throws `not-found` when it has ended, `failed-precondition` when it was not started. */
  kill(signal: number): void {
    const state = this.#state;
    switch (state.kind) {
      case 'created':
        throw this.#refusal('process not created');
      case 'running':
        state.running.signal(signal);
        return;
      case 'stopped':
      case 'dropped':
        throw new ShimError('not-found', `process already finished: process "${this.id}"`);
      default:
        state satisfies never;
    }
  }

  resize(size: TerminalSize): void {
    this.#size = size;
    if (this.#state.kind === 'running') this.#state.running.resize(size);
  }

  /** The input ends with what is in it. Idempotent. */
  closeStdin(): void {
    this.#stdinClosed = true;
    if (this.#state.kind === 'running') this.#state.stdio.closeStdin();
  }

  /** Lets go of it and gives how it ended, undefined if it never ran. Throws `failed-precondition` while it runs. */
  delete(): Promise<TaskExit | undefined> {
    return this.#lock.run(async () => {
      const state = this.#state;
      switch (state.kind) {
        case 'created':
          this.#state = { kind: 'dropped' };
          this.#settleExit({ exitCode: neverRanExitCode, exitedAt: new Date() });
          return undefined;
        case 'dropped':
          return undefined;
        case 'running':
          throw this.#refusal('cannot delete a running process');
        case 'stopped':
          await this.#closing;
          return state.exit;
        default:
          return state satisfies never;
      }
    });
  }

  /** Resolves when it does not run, or never will. Its workload has ended. */
  async ended(): Promise<void> {
    await this.#lock.run(async () => {});
    if (this.#state.kind === 'running') await this.exit;
  }

  #end(stdio: TaskStdio, exit: TaskExit): Promise<void> {
    // At once, since the client waits for the end of its copies, and they for ours.
    this.#closing = this.#closeStdio(stdio);
    return this.#lock.run(async () => {
      this.#state = { kind: 'stopped', exit };
      this.#observer.exited(this, exit);
      this.#settleExit(exit);
    });
  }

  async #openStdio(): Promise<TaskStdio> {
    const { directory } = this.#owner;
    if (this.#isDriven) await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      return await TaskStdio.open(this.stdioPaths, this.#owner, { holdStdin: !this.#stdinClosed });
    } catch (error) {
      await this.#removeDirectory();
      throw error;
    }
  }

  async #closeStdio(stdio: TaskStdio, timeoutMs?: number): Promise<void> {
    await stdio.close(timeoutMs);
    await this.#removeDirectory();
  }

  async #removeDirectory(): Promise<void> {
    if (this.#isDriven) await rm(this.#owner.directory, { recursive: true, force: true });
  }

  /** Whether its output goes to a log driver. */
  get #isDriven(): boolean {
    return [this.stdioPaths.stdout, this.stdioPaths.stderr].some(isLogDriver);
  }

  #refusal(message: string): ShimError {
    return new ShimError('failed-precondition', `${message}: process "${this.id}"`);
  }
}
