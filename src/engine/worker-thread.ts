import { parentPort, workerData } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import { AppRunner } from './app-runner.ts';
import { OutputSink } from './output-sink.ts';
import type { WorkerInput, WorkerReply, WorkerRequest } from './worker-messages.ts';

/** A worker's whole life: load the app it was born with, serve, drain. */
export function runWorker(): void {
  const port = parentPort;
  if (port === null) throw new ShimError('internal', 'the worker entry was run outside of a worker thread');
  const reply = (message: WorkerReply): void => port.postMessage(message);
  const fail = (thrown: unknown): void => {
    const { code, message } = ShimError.from(thrown);
    reply({ type: 'failed', code, message });
  };
  const input = workerData as WorkerInput;
  const outputs = { stdout: new OutputSink(input.stdout), stderr: new OutputSink(input.stderr) };
  const runner = AppRunner.load(input.claim, input.components, outputs);
  runner.then(({ listenAddress }) => reply({ type: 'loaded', listen: listenAddress })).catch(fail);
  port.on('message', (request: WorkerRequest) => {
    runner
      .then(async (app) => {
        switch (request.type) {
          case 'serve':
            await app.serve(request.fd, request.address, request.announce);
            reply({ type: 'serving' });
            return;
          case 'drain':
            await app.drain();
            reply({ type: 'drained' });
            return;
          default:
            request satisfies never;
        }
      })
      .catch(fail);
  });
}
