import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { ShimError } from '../error.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Bundle } from './bundle.ts';
import { sendSignal } from './cgroup.ts';
import type { CgroupStats } from './cgroup-stats.ts';
import { HeldResources } from './held-resources.ts';
import { networkOf } from './sandbox-registry.ts';
import type { Spec, SpecResources } from './spec.ts';
import type { TaskExit } from './task-state.ts';
import type { Workload } from './workload.ts';

/**
 * How long the sandbox process has to report its pid, milliseconds: as long as a host or an engine has to boot. It takes one; on a
 * node without a free core ten seconds were seen to pass, and a pod that is given up has to be made again by the same cores.
 */
const sandboxStartTimeoutMs = 100_000;

/** How often and with which pauses, in milliseconds, a sandbox is moved to where it is: for a fifth of a second. */
const quickMoves = { count: 20, pauseMs: 10 } as const;

/** Most bytes of what the launcher writes that are kept. */
const maxOutputBytes = 4096;

/** A pod's sandbox: the launcher's `pause`, whose one small process holds the pod's namespaces. */
export class Sandbox implements Workload {
  readonly exited: Promise<TaskExit>;
  readonly #id: string;
  readonly #bundle: Bundle;
  readonly #launcher: string;
  readonly #held: HeldResources;
  #parent: ChildProcess | undefined;
  #pid: number | undefined;
  readonly #log: Logger;
  /** Resolves when it is where it belongs, or is being ended. */
  #placing: Promise<void> = Promise.resolve();
  #resolveExited: (exit: TaskExit) => void = () => {};

  /** `launcher`: absolute path of the launcher binary. */
  constructor(id: string, bundle: Bundle, launcher: string, log: Logger) {
    this.#id = id;
    this.#bundle = bundle;
    this.#launcher = launcher;
    this.#held = new HeldResources(id, bundle, log);
    this.#log = log;
    this.exited = new Promise((resolve) => {
      this.#resolveExited = resolve;
    });
  }

  async create(): Promise<number> {
    const parent = spawn(this.#launcher, pauseArguments(this.#bundle.spec), {
      cwd: '/',
      detached: true,
      env: {},
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#parent = parent;
    parent.once('exit', (code, signal) => {
      const exitCode = signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0);
      this.#resolveExited({ exitCode, exitedAt: new Date() });
    });
    const told = firstLine(parent, this.#id);
    // Waited for below, unless the cgroup cannot be made, which takes as long as the processes need.
    told.catch(() => {});
    try {
      this.#held.makeCgroup();
      this.#held.limitCgroup();
    } catch (error) {
      parent.kill('SIGKILL');
      throw error;
    }
    const pid = await told;
    this.#pid = pid;
    const pids = parent.pid === undefined ? [pid] : [pid, parent.pid];
    this.#held.listProcesses(pids);
    this.#placing = this.#place(pids);
    return pid;
  }

  /**
   * Puts the sandbox into its cgroup. Nobody waits for it but who needs it there: the processes only sleep, and the kernel takes
   * some 20 ms for the move, a fifth of a pod's start. One that cannot be put there ends.
   */
  async #place(pids: readonly number[]): Promise<void> {
    try {
      await this.#held.placeProcesses(pids);
      void this.#keepMovesQuick();
    } catch (error) {
      this.#log.error({ instance: this.#id, err: error }, 'the sandbox is ended');
      this.#parent?.kill('SIGKILL');
    }
  }

  /**
   * The kernel waits for the first move into a cgroup after some 15 ms without one. A pod's first container mostly comes right
   * after its sandbox, and its engine has to be moved: until then the sandbox is moved to where it is, again and again.
   */
  async #keepMovesQuick(): Promise<void> {
    const { cgroup } = this.#held;
    const parent = this.#parent;
    for (let count = 0; count < quickMoves.count && parent?.pid !== undefined; count += 1) {
      await pause(quickMoves.pauseMs);
      // Its number is another's from here on.
      if (parent.exitCode !== null || parent.signalCode !== null) return;
      if (!(await cgroup.stay(parent.pid))) return;
    }
  }

  /** The namespaces exist since `create`; there is nothing to run in them. */
  async start(): Promise<void> {}

  async kill(signal: number, all: boolean): Promise<void> {
    await this.#placing;
    if (signal === 9) await this.#held.cgroup.freeze(false).catch(() => {});
    if (this.#pid !== undefined) sendSignal(this.#pid, signal);
    if (all) await this.#held.cgroup.signal(signal);
  }

  watchMemory(tell: () => void): void {
    this.#held.watchMemory(tell);
  }

  outOfMemory(): Promise<boolean> {
    return this.#held.outOfMemoryUntold();
  }

  async pids(): Promise<readonly number[]> {
    return this.#pid === undefined ? [] : [this.#pid];
  }

  stats(): Promise<CgroupStats> {
    return this.#held.stats();
  }

  async pause(): Promise<void> {
    await this.#placing;
    return this.#held.cgroup.freeze(true);
  }

  resume(): Promise<void> {
    return this.#held.cgroup.freeze(false);
  }

  async update(resources: SpecResources): Promise<void> {
    // systemd is told of the limits that it was created with; what it is told later has to come later.
    await this.#placing;
    await this.#held.update(resources);
  }

  assertExec(): void {
    throw new ShimError(
      'unimplemented',
      `exec into the sandbox of pod "${this.#id}" is not supported, it has no programs: exec into a container of the pod`,
    );
  }

  exec(): never {
    throw new ShimError('internal', `the sandbox of pod "${this.#id}" runs no commands`);
  }

  async delete(): Promise<void> {
    await this.#placing;
    this.#parent?.kill('SIGKILL');
    await this.#held.free();
    if (this.#parent?.pid !== undefined) await this.exited;
  }
}

/** The arguments of the launcher's `pause` for a sandbox's specification. */
export function pauseArguments(spec: Spec): readonly string[] {
  const network = networkOf(spec);
  const fresh = (type: string): 'new' | 'host' =>
    spec.namespaces.some((entry) => entry.type === type) ? 'new' : 'host';
  const uts = fresh('uts');
  return [
    'pause',
    // Without a uts namespace of its own the sandbox would rename the node.
    ...(spec.hostname !== '' && uts === 'new' ? ['-hostname', spec.hostname] : []),
    '-net',
    network.kind === 'path' ? `path:${network.path}` : network.kind,
    '-ipc',
    fresh('ipc'),
    '-uts',
    uts,
    '-pid',
    fresh('pid'),
    '-user',
    String(spec.uid),
    '-group',
    String(spec.gid),
    ...spec.sysctl.flatMap(([name, value]) => ['-sysctl', `${name}=${value}`]),
  ];
}

/** Waits for the pid on the first line of standard output. Rejects with what the launcher said instead. */
function firstLine(parent: ChildProcess, id: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = '';
    let complaint = '';
    const fail = (why: string): void => {
      clearTimeout(timer);
      parent.kill('SIGKILL');
      reject(new ShimError('internal', `the sandbox of pod "${id}" could not be made: ${why}`));
    };
    const timer = setTimeout(
      () => fail(`no answer within ${sandboxStartTimeoutMs} ms`),
      sandboxStartTimeoutMs,
    );
    parent.once('error', (error) => fail(error.message));
    parent.once('close', (code) => fail(complaint.trim() || `exit code ${code}`));
    parent.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      complaint = (complaint + chunk).slice(0, maxOutputBytes);
    });
    parent.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      output = (output + chunk).slice(0, maxOutputBytes);
      const line = output.slice(0, output.indexOf('\n'));
      if (!/^\d+$/.test(line)) return;
      clearTimeout(timer);
      resolve(Number(line));
    });
  });
}
