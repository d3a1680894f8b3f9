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
 * another core (docs/decisions/0021): Node takes 27 ms, a worker 35 and the main thread's code 15.
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
