import { closeSync, constants, openSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

/** Files in memory that one worker may hold open; an app has one for each component that maps its image. */
const maxHeld = 64;

/** What a worker is given when it is made. Plain data. */
export type WorkerDescriptors = {
  /** /proc/self/pagemap, opened while the process was allowed to; undefined where it is not there. */
  readonly pagemapFd: number | undefined;
  /** Descriptors that the worker has made, for the main thread to close when it has died: a count, then the numbers. */
  readonly held: SharedArrayBuffer;
};

/** Descriptors for a worker that is to be made. */
export function makeWorkerDescriptors(pagemapFd: number | undefined): WorkerDescriptors {
  return { pagemapFd, held: new SharedArrayBuffer(4 * (1 + maxHeld)) };
}

/** Opens what tells which pages are this process's own; undefined where that is forbidden or not there. */
export function openPagemap(): number | undefined {
  try {
    return openSync('/proc/self/pagemap', constants.O_RDONLY);
  } catch {
    return undefined;
  }
}

/** Closes what a worker held. It has to be dead: nothing that it mapped is used any more. */
export function closeHeld({ held }: WorkerDescriptors): void {
  const [count = 0, ...fds] = new Int32Array(held);
  for (const fd of fds.slice(0, count)) closeSync(fd);
}

let own: WorkerDescriptors | undefined;

/** Those of this thread. One that was made without them, a test's, opens its own. */
export function ownDescriptors(): WorkerDescriptors {
  if (own !== undefined) return own;
  const given = workerData as WorkerDescriptors | null;
  own = given !== null && 'held' in given ? given : makeWorkerDescriptors(openPagemap());
  return own;
}

/** Notes a descriptor that lives as long as this worker; false when there are too many, then it is the caller's to close. */
export function hold(fd: number): boolean {
  const fds = new Int32Array(ownDescriptors().held);
  const count = fds[0] ?? 0;
  if (count >= maxHeld) return false;
  fds[1 + count] = fd;
  fds[0] = count + 1;
  return true;
}
