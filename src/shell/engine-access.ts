import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { TraceLine, WorkerStatus } from '../engine/inspection.ts';
import type { Inspection, ShellAnswer, ShellQuestion, WorkerFigures } from '../engine/shell-messages.ts';
import { CommandFailure } from './command.ts';

/** How long a worker may take to tell what it does, milliseconds; one that computes without a pause does not. */
const statusTimeoutMs = 500;

/** The way from the shell's thread to the rest of its engine. */
export type EngineLine = {
  ask(question: ShellQuestion): Promise<ShellAnswer>;
  /** Hands a port to a worker, which answers on it. */
  inspect(thread: number, inspection: Inspection, port: MessagePort): void;
};

/** What the shell sees of the engine it runs in. */
export class EngineAccess {
  readonly #line: EngineLine;
  /** Where the app listens, `host:port`. */
  readonly address: string;

  constructor(line: EngineLine, address: string) {
    this.#line = line;
    this.address = address;
  }

  async workers(): Promise<readonly WorkerFigures[]> {
    const answer = await this.#line.ask({ kind: 'workers' });
    if (answer.kind !== 'workers') throw failed(answer);
    return answer.workers;
  }

  /** Samples a worker's stacks; JSON of a .cpuprofile. */
  async profile(thread: number, milliseconds: number): Promise<string> {
    const answer = await this.#line.ask({ kind: 'profile', thread, milliseconds });
    if (answer.kind !== 'profile') throw failed(answer);
    return answer.profile;
  }

  /** What a worker does; undefined when it does not answer in time. */
  status(thread: number): Promise<WorkerStatus | undefined> {
    const { port1, port2 } = new MessageChannel();
    this.#line.inspect(thread, 'status', port2);
    return new Promise((resolve) => {
      const settle = (status: WorkerStatus | undefined): void => {
        clearTimeout(timer);
        resolve(status);
        port1.close();
      };
      const timer = setTimeout(() => settle(undefined), statusTimeoutMs);
      port1.on('message', (status: WorkerStatus) => settle(status));
      port1.once('close', () => settle(undefined));
    });
  }

  /** Requests of a worker as they end, until `signal` aborts or the worker does. */
  async trace(
    thread: number,
    signal: AbortSignal,
    onLine: (line: TraceLine) => Promise<void>,
    onListening: () => void,
  ): Promise<void> {
    const { port1, port2 } = new MessageChannel();
    this.#line.inspect(thread, 'trace', port2);
    const stop = (): void => port1.close();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    await new Promise<void>((resolve) => {
      let tail = Promise.resolve();
      port1.on('message', (message: TraceLine | 'listening') => {
        if (message === 'listening') {
          onListening();
          return;
        }
        tail = tail
          .then(() => onLine(message))
          .then(
            () => port1.postMessage('taken'),
            () => port1.close(),
          );
      });
      port1.once('close', resolve);
    });
    signal.removeEventListener('abort', stop);
  }
}

function failed(answer: ShellAnswer): CommandFailure {
  return new CommandFailure(answer.kind === 'failed' ? answer.message : 'the engine gave another answer');
}
