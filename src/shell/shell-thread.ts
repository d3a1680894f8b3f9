import { parentPort, workerData } from 'node:worker_threads';
import { ownPrograms } from '../engine/program.ts';
import type { ShellAnswer, ShellInput, ShellReply, ShellRequest } from '../engine/shell-messages.ts';
import { refuseCodeFromStrings } from '../engine/v8-calls.ts';
import { ShimError } from '../error.ts';
import { AppAccess } from './app-access.ts';
import { EngineAccess } from './engine-access.ts';
import { ExecSession } from './exec-session.ts';

/** The whole life of the shell's thread: every exec of its container is a session in it. */
export function runShell(): void {
  const port = parentPort;
  if (port === null) throw new ShimError('internal', 'the shell entry was run outside of a worker thread');
  refuseCodeFromStrings();
  const { claim, address } = workerData as ShellInput;
  const sessions = new Map<string, ExecSession>();
  const questions = new Map<number, (answer: ShellAnswer) => void>();
  let lastQuestion = 0;
  const app = new AppAccess(claim, address);
  const engine = new EngineAccess(
    {
      ask: (about) =>
        new Promise((resolve) => {
          const question = ++lastQuestion;
          questions.set(question, resolve);
          port.postMessage({ type: 'ask', question, about } satisfies ShellReply);
        }),
      inspect: (thread, inspection, inspectionPort) => {
        const request: ShellReply = { type: 'inspect', thread, inspection, port: inspectionPort };
        port.postMessage(request, [inspectionPort]);
      },
    },
    address,
  );
  port.on('message', (request: ShellRequest) => {
    switch (request.type) {
      case 'exec': {
        const { id } = request.exec;
        const session = new ExecSession(request.exec, request.fds, app, engine);
        sessions.set(id, session);
        void session.run().then((exitCode) => {
          sessions.delete(id);
          ownPrograms()?.keep();
          port.postMessage({ type: 'exec-exited', id, exitCode } satisfies ShellReply);
        });
        return;
      }
      case 'exec-signal':
        sessions.get(request.id)?.signal(request.signal);
        return;
      case 'exec-resize':
        sessions.get(request.id)?.resize(request.size);
        return;
      case 'answer':
        questions.get(request.question)?.(request.answer);
        questions.delete(request.question);
        return;
      default:
        request satisfies never;
    }
  });
}
