import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { startGuestWorker } from './start-worker.ts';
import { refuseCodeFromStrings } from './v8-calls.ts';
import { openPagemap } from './worker-descriptors.ts';

/** The worker that boots beside the main thread and waits for the app. */
export type FirstWorker = {
  readonly worker: Worker;
  /** Resolves with why it ended. */
  readonly exited: Promise<string>;
  /** Opened while this process may still open what is root's. */
  readonly pagemapFd: number | undefined;
};

/**
 * Boots an engine: the worker first, since it takes longest, then the main thread's own code while the worker boots on
 * another core. Node boots in 45 ms with its channel to the parent, a worker in 50, the main thread's code in 45.
 */
export async function bootEngine(): Promise<void> {
  // Before the worker is made, so that it holds for all its threads; an engine executes nothing. The launcher has done so.
  if (!hasNoNewPrivileges()) (await import('../linux-rights.ts')).setNoNewPrivileges();
  const pagemapFd = openPagemap();
  const exited = Promise.withResolvers<string>();
  const worker = startGuestWorker(pagemapFd, exited.resolve);
  refuseCodeFromStrings();
  const { EngineServer } = await import('./engine-server.ts');
  new EngineServer({ worker, exited: exited.promise, pagemapFd }).run();
}

function hasNoNewPrivileges(): boolean {
  return /^NoNewPrivs:\t1$/m.test(readFileSync('/proc/thread-self/status', 'utf8'));
}
