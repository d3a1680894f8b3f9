import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import { duplicateFd } from '../linux.ts';
import { ownCompileCacheVariables } from './compile-cache.ts';
import { findInstallation } from './installation.ts';
import { closeHeld, makeWorkerDescriptors } from './worker-descriptors.ts';
import type { WorkerInput, WorkerReply, WorkerRequest } from './worker-messages.ts';

/** V8 heap of a worker, MiB, where the guests' host objects live; linear memories are not counted in it. */
const maxWorkerHeapMiB = 512;

/** Starts a thread for guests; `onExit` is told why it ended. */
export function startGuestWorker(pagemapFd: number | undefined, onExit: (reason: string) => void): Worker {
  const descriptors = makeWorkerDescriptors(pagemapFd);
  const worker = new Worker(findInstallation().worker, {
    env: ownCompileCacheVariables(),
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

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY')
    return `the host's objects of its guests outgrew the ${maxWorkerHeapMiB} MiB that a worker has for them`;
  return error.message;
}

/** Asks a worker for something that it does not answer, or answers later. */
export function post(worker: Worker, request: WorkerRequest): void {
  worker.postMessage(request);
}

/** What `load` hands over; the outputs are the main thread's own, the worker gets duplicates. */
export async function load(
  worker: Worker,
  input: WorkerInput,
): Promise<Extract<WorkerReply, { type: 'loaded' }>> {
  withDuplicates([input.stdout, input.stderr], ([stdout, stderr]) =>
    post(worker, { type: 'load', input: { ...input, stdout, stderr } }),
  );
  return reply(worker, 'loaded');
}

/** Lets a worker accept on a duplicate of a listening socket. */
export async function serve(
  worker: Worker,
  listenFd: number,
  address: string,
  announce: boolean,
): Promise<void> {
  withDuplicates([listenFd], ([fd]) => {
    if (fd !== undefined) post(worker, { type: 'serve', fd, address, announce });
  });
  await reply(worker, 'serving');
}

/** Duplicates descriptors for somebody who owns them from then on; closes them when handing them over fails. */
function withDuplicates(
  fds: readonly (number | undefined)[],
  handOver: (duplicates: readonly (number | undefined)[]) => void,
): void {
  const duplicates: (number | undefined)[] = [];
  try {
    for (const fd of fds) duplicates.push(fd === undefined ? undefined : duplicateFd(fd));
    handOver(duplicates);
  } catch (error) {
    for (const fd of duplicates) if (fd !== undefined) closeSync(fd);
    throw error;
  }
}

/** The worker's next answer of a type; rejects with its reason, or, when it dies first, with why. */
export function reply<T extends WorkerReply['type']>(
  worker: Worker,
  type: T,
): Promise<Extract<WorkerReply, { type: T }>> {
  return new Promise((resolve, reject) => {
    let reason = '';
    const onError = (error: unknown): void => {
      reason = `: ${reasonOf(error)}`;
    };
    const onMessage = (message: WorkerReply): void => {
      if (message.type !== type && message.type !== 'failed') return;
      worker.off('message', onMessage);
      worker.off('error', onError);
      worker.off('exit', onExit);
      if (message.type === 'failed') reject(new ShimError(message.code, message.message));
      else resolve(message as Extract<WorkerReply, { type: T }>);
    };
    const onExit = (code: number): void =>
      reject(new ShimError('internal', `the worker thread ended with code ${code}${reason}`));
    worker.on('message', onMessage);
    worker.on('error', onError);
    worker.once('exit', onExit);
  });
}
