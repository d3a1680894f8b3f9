import { ShimError } from '../error.ts';

/** How a task's process ended. */
export type TaskExit = {
  /** Exit code; 128 + n after signal n. */
  readonly exitCode: number;
  readonly exitedAt: Date;
  /** Why, where the process told us; for the container's log. */
  readonly reason?: string;
};

/** Where a task is in its life. Before `created` and after its deletion it is in no table, so it has no state. */
export type TaskState =
  | { readonly kind: 'created' }
  | { readonly kind: 'running' }
  | { readonly kind: 'paused' }
  | { readonly kind: 'stopped'; readonly exit: TaskExit };

/** What can be asked of a task. */
export type TaskOperation = 'start' | 'kill' | 'pause' | 'resume' | 'delete' | 'update' | 'exec';

type Verdict = 'allowed' | { readonly code: 'failed-precondition' | 'not-found'; readonly message: string };

const refuse = (message: string): Verdict => ({ code: 'failed-precondition', message });

/** Every operation in every state; the refusals are worded as runc's shim words them (containerd.md 3.2). */
const verdicts: { readonly [kind in TaskState['kind']]: { readonly [op in TaskOperation]: Verdict } } = {
  created: {
    start: 'allowed',
    kill: 'allowed',
    pause: refuse('cannot pause task in created state'),
    resume: refuse('cannot resume task in created state'),
    delete: 'allowed',
    update: 'allowed',
    exec: refuse('cannot exec in a created state'),
  },
  running: {
    start: refuse('cannot start a running process'),
    kill: 'allowed',
    pause: 'allowed',
    resume: refuse('cannot resume a running process'),
    delete: refuse('cannot delete a running process'),
    update: 'allowed',
    exec: 'allowed',
  },
  paused: {
    start: refuse('cannot start a paused process'),
    kill: 'allowed',
    pause: refuse('cannot pause a paused container'),
    resume: 'allowed',
    delete: refuse('cannot delete a paused process'),
    update: 'allowed',
    exec: refuse('cannot exec in a paused state'),
  },
  stopped: {
    start: refuse('cannot start a stopped process'),
    kill: { code: 'not-found', message: 'process already finished' },
    pause: refuse('cannot pause a stopped container'),
    resume: refuse('cannot resume a stopped container'),
    delete: 'allowed',
    update: refuse('cannot update a stopped container'),
    exec: refuse('cannot exec in a stopped state'),
  },
};

/** Throws the refusal of an operation that the task's state does not allow: `failed-precondition` or `not-found`. */
export function assertAllowed(state: TaskState, operation: TaskOperation, id: string): void {
  const verdict = verdicts[state.kind][operation];
  if (verdict !== 'allowed') throw new ShimError(verdict.code, `${verdict.message}: task "${id}"`);
}
