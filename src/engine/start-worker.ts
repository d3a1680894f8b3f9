import { Worker } from 'node:worker_threads';
import { closeHeld, makeWorkerDescriptors } from './worker-descriptors.ts';

/** V8 heap of a worker, MiB, where the guests' host objects live; linear memories are not counted in it. */
const maxWorkerHeapMiB = 512;

/** Starts a thread for guests that runs `file`; `onExit` is told why it ended. */
export function startGuestWorker(
  file: string,
  pagemapFd: number | undefined,
  onExit: (reason: string) => void,
): Worker {
  const descriptors = makeWorkerDescriptors(pagemapFd);
  const worker = new Worker(file, {
    env: {},
    workerData: descriptors,
    resourceLimits: { maxOldGenerationSizeMb: maxWorkerHeapMiB },
    name: 'guests',
    // Descriptors come from system calls and from the main thread; Node's own books do not hold them.
    trackUnmanagedFds: false,
  });
  let reason = 'it ended without an error';
  worker.on('error', (error) => {
    reason = reasonOf(error);
  });
  worker.on('exit', () => {
    closeHeld(descriptors);
    onExit(reason);
  });
  return worker;
}

/** Why a worker ended, by what it threw. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY')
    return `the host's objects of its guests outgrew the ${maxWorkerHeapMiB} MiB that a worker has for them`;
  return error.message;
}
