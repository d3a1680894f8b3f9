import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import { receiveDescriptors } from '../linux.ts';
import type { ExecReply, ExecRequest } from './exec-messages.ts';
import { findInstallation } from './installation.ts';
import type { EngineClaim } from './messages.ts';
import type { ShellAnswer, ShellInput, ShellQuestion, ShellReply, ShellRequest } from './shell-messages.ts';
import { figuresOf, profileWorker } from './worker-figures.ts';

/** The engine's end of the socket on which the descriptors of commands come, as its parent numbers it. */
export const handoverFd = 4;

/** V8 heap of the shell's thread, MiB. */
const maxShellHeapMiB = 128;

/** How long the thread is kept for the next command, milliseconds: an exec probe comes every ten seconds. */
const idleMs = 60_000;

/** How long a command may take to end after SIGKILL before the thread is ended, milliseconds. */
const killTimeoutMs = 1_000;

const sigkill = 9;
const killedExitCode = 137;

/** What the shell is told of its engine. */
export type ShellSurroundings = {
  readonly claim: EngineClaim;
  /** Where the app listens, `host:port`. */
  readonly address: string;
  /** Those that run guests now. */
  readonly workers: () => readonly Worker[];
};

/**
 * The debug shell of an engine, seen from its main thread: a thread of its own, made when the first command comes. It
 * never runs guest code; if it fails or hangs, its commands end with 137 and nothing else does.
 */
export class ShellFront {
  readonly #surroundings: () => ShellSurroundings | undefined;
  readonly #reply: (reply: ExecReply) => void;
  readonly #running = new Set<string>();
  #thread: Worker | undefined;
  #isOnline = false;
  /** Descriptors for a thread that has not begun to run. */
  #waiting: number[] = [];
  #idle: NodeJS.Timeout | undefined;

  /** `surroundings` gives undefined as long as the engine has no app. */
  constructor(surroundings: () => ShellSurroundings | undefined, reply: (reply: ExecReply) => void) {
    this.#surroundings = surroundings;
    this.#reply = reply;
  }

  /** Takes what the parent says about commands. */
  handle(request: ExecRequest): void {
    switch (request.type) {
      case 'exec':
        this.#exec(request);
        return;
      case 'exec-signal':
        this.#post(request);
        if (request.signal === sigkill) setTimeout(() => this.#endHung(request.id), killTimeoutMs).unref();
        return;
      case 'exec-resize':
        this.#post(request);
        return;
      default:
        request satisfies never;
    }
  }

  /** An engine that has no descriptors or threads left for a command ends that one and nothing else. */
  #exec({ exec }: Extract<ExecRequest, { type: 'exec' }>): void {
    let fds: readonly number[] = [];
    this.#running.add(exec.id);
    try {
      fds = receiveDescriptors(handoverFd);
      const surroundings = this.#surroundings();
      if (surroundings === undefined) throw new ShimError('failed-precondition', 'the engine has no app yet');
      clearTimeout(this.#idle);
      this.#thread ??= this.#start(surroundings);
      if (!this.#isOnline) this.#waiting.push(...fds);
      this.#post({ type: 'exec', exec, fds });
    } catch (thrown) {
      for (const fd of fds) closeSync(fd);
      process.stderr.write(`a command could not be run: ${ShimError.from(thrown).message}\n`);
      this.#exited(exec.id, killedExitCode);
    }
  }

  #post(request: ShellRequest): void {
    this.#thread?.postMessage(request);
  }

  #start({ claim, address }: ShellSurroundings): Worker {
    const workerData: ShellInput = { claim, address };
    const thread = new Worker(findInstallation().shell, {
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: maxShellHeapMiB },
      name: 'shell',
      workerData,
      // Descriptors come from the parent; Node's own books do not hold them.
      trackUnmanagedFds: false,
    });
    thread.on('message', (reply: ShellReply) => this.#onReply(thread, reply));
    thread.on('error', (error) => {
      process.stderr.write(`the shell failed: ${ShimError.from(error).message}\n`);
    });
    thread.once('online', () => {
      this.#isOnline = true;
      this.#waiting = [];
    });
    thread.once('exit', () => {
      this.#thread = undefined;
      this.#isOnline = false;
      for (const fd of this.#waiting.splice(0)) closeSync(fd);
      for (const id of [...this.#running]) this.#exited(id, killedExitCode);
    });
    return thread;
  }

  #onReply(thread: Worker, reply: ShellReply): void {
    switch (reply.type) {
      case 'exec-exited':
        this.#exited(reply.id, reply.exitCode);
        return;
      case 'ask':
        this.#answer(reply.about)
          .catch(
            (thrown: unknown): ShellAnswer => ({ kind: 'failed', message: ShimError.from(thrown).message }),
          )
          .then((answer) => thread.postMessage({ type: 'answer', question: reply.question, answer }));
        return;
      case 'inspect': {
        const worker = this.#worker(reply.thread);
        const { inspection, port } = reply;
        if (worker === undefined) port.close();
        else worker.postMessage({ type: 'inspect', inspection, port }, [port]);
        return;
      }
      default:
        reply satisfies never;
    }
  }

  async #answer(question: ShellQuestion): Promise<ShellAnswer> {
    switch (question.kind) {
      case 'workers':
        return {
          kind: 'workers',
          workers: await Promise.all((this.#surroundings()?.workers() ?? []).map(figuresOf)),
        };
      case 'profile': {
        const worker = this.#worker(question.thread);
        if (worker === undefined) throw new ShimError('not-found', `worker ${question.thread} has ended`);
        return { kind: 'profile', profile: await profileWorker(worker, question.milliseconds) };
      }
      default:
        return question satisfies never;
    }
  }

  #worker(thread: number): Worker | undefined {
    return this.#surroundings()
      ?.workers()
      .find(({ threadId }) => threadId === thread);
  }

  #exited(id: string, exitCode: number): void {
    if (!this.#running.delete(id)) return;
    this.#reply({ type: 'exec-exited', id, exitCode });
    if (this.#running.size > 0) return;
    this.#idle = setTimeout(() => void this.#thread?.terminate(), idleMs);
    this.#idle.unref();
  }

  #endHung(id: string): void {
    if (this.#running.has(id)) void this.#thread?.terminate();
  }
}
