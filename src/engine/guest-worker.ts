import { closeSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import { duplicateFd } from '../linux.ts';
import { reasonOf } from './start-worker.ts';
import type { WorkerInput, WorkerReply, WorkerRequest } from './worker-messages.ts';

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
