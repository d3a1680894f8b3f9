import { parentPort } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import { enterNetworkNamespace } from '../linux.ts';
import { nodeCrypto } from '../node-crypto.ts';
import { AppRunner } from './app-runner.ts';
import { type PlansAhead, readPlan } from './load-runtime.ts';
import { OutputSink } from './output-sink.ts';
import { PermitLedger } from './permits.ts';
import { ownPrograms } from './program.ts';
import { rehearse, wholeRehearsal } from './rehearsal.ts';
import { RequestBoard } from './request-board.ts';
import { refuseCodeFromStrings } from './v8-calls.ts';
import type { WorkerInput, WorkerReply, WorkerRequest } from './worker-messages.ts';

/** A worker's whole life: wait for an app, load it, serve, drain. */
export function runWorker(): void {
  const port = parentPort;
  if (port === null) throw new ShimError('internal', 'the worker entry was run outside of a worker thread');
  refuseCodeFromStrings();
  const reply = (message: WorkerReply | undefined): void => {
    if (message !== undefined) port.postMessage(message);
  };
  const runner = Promise.withResolvers<AppRunner>();
  let claimed = false;
  let rehearsal = Promise.resolve();
  const plans: PlansAhead = new Map();
  const handle = async (request: WorkerRequest): Promise<WorkerReply | undefined> => {
    switch (request.type) {
      case 'load': {
        claimed = true;
        await rehearsal.catch(() => {});
        const app = await load(request.input, plans, () => reply({ type: 'active' }));
        runner.resolve(app);
        return { type: 'loaded', milliseconds: app.milliseconds };
      }
      case 'warm-up':
        rehearsal = rehearse(1, () => false);
        await rehearsal.catch(() => {});
        return undefined;
      case 'rehearse': {
        nodeCrypto();
        rehearsal = rehearsal.catch(() => {}).then(() => rehearse(wholeRehearsal, () => claimed));
        const problem = await rehearsal.then(
          () => undefined,
          (thrown: unknown) => ShimError.from(thrown).message,
        );
        if (!claimed) ownPrograms()?.keep();
        return { type: 'rehearsed', problem };
      }
      case 'plan':
        claimed = true;
        await rehearsal.catch(() => {});
        try {
          plans.set(request.digest, readPlan(request.text));
        } catch {
          // Loading reads it again, and tells what is wrong with it.
        }
        return undefined;
      case 'serve': {
        const app = await runner.promise;
        await app.serve(request.fd, request.address, request.announce);
        return { type: 'serving' };
      }
      case 'drain': {
        const app = await runner.promise;
        await app.drain(request.keepIdle);
        ownPrograms()?.keep();
        return { type: 'drained' };
      }
      case 'inspect':
        // Who looks sees a closed port where something is wrong; the answers here are the main thread's.
        inspect(runner.promise, request).catch(() => request.port.close());
        return undefined;
      default:
        return request satisfies never;
    }
  };
  port.on('message', (request: WorkerRequest) => {
    const answer = (message: WorkerReply | undefined): void => {
      if (message !== undefined) reply(message);
    };
    handle(request).then(answer, (thrown: unknown) => {
      const { code, message } = ShimError.from(thrown);
      reply({ type: 'failed', code, message });
    });
  });
  reply({ type: 'ready' });
}

function load(input: WorkerInput, plans: PlansAhead, wake: () => void): Promise<AppRunner> {
  // Before the first socket of this thread is made.
  if (input.networkFd !== undefined) enterNetworkNamespace(input.networkFd);
  return AppRunner.load(input.claim, input.components, {
    stdout: new OutputSink(input.stdout),
    stderr: new OutputSink(input.stderr),
    board: new RequestBoard(input.board),
    permits: { ledger: PermitLedger.at(input.permits), worker: input.worker },
    wake,
    quiet: input.quiet,
    wary: input.wary,
    plans,
  });
}

async function inspect(
  runner: Promise<AppRunner>,
  { inspection, port }: Extract<WorkerRequest, { type: 'inspect' }>,
): Promise<void> {
  const { inspected } = await runner;
  // Loaded when somebody looks: no app needs it.
  const { inspectWorker } = await import('./inspection.ts');
  inspectWorker(inspected, inspection, port);
}
