import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { startGuestWorker } from './start-worker.ts';
import { openPagemap } from './worker-descriptors.ts';

/** The worker that boots beside the main thread and waits for the app. */
export type FirstWorker = {
  readonly worker: Worker;
  /** Resolves with why it ended. */
  readonly exited: Promise<string>;
  /** Opened while this process may still open what is root's. */
  readonly pagemapFd: number | undefined;
};

/** Starts the thread of an engine's first worker, whose code is `file`. What this thread is not to gain it has given up before. */
export function startFirstWorker(file: string): FirstWorker {
  const pagemapFd = openPagemap();
  const exited = Promise.withResolvers<string>();
  const worker = startGuestWorker(file, pagemapFd, exited.resolve);
  return { worker, exited: exited.promise, pagemapFd };
}

/** Whether nothing that this thread executes, nor a thread that it makes, can gain rights. */
export function hasNoNewPrivileges(): boolean {
  return /^NoNewPrivs:\t1$/m.test(readFileSync('/proc/thread-self/status', 'utf8'));
}

const key = Symbol.for('spinshim.first-worker');
type Kept = { [key]?: FirstWorker };

/** Leaves a worker for the program that this thread loads next, which asks for it in the same turn: none of its messages is lost. */
export function leaveFirstWorker(first: FirstWorker): void {
  (globalThis as Kept)[key] = first;
}

/** The one that was left, if any. */
export function takeFirstWorker(): FirstWorker | undefined {
  return (globalThis as Kept)[key];
}
