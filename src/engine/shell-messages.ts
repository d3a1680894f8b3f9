import type { MessagePort } from 'node:worker_threads';
import type { ExecReply, ExecStart, TerminalSize } from './exec-messages.ts';
import type { EngineClaim } from './messages.ts';

/** What the shell's thread is made with. */
export type ShellInput = {
  readonly claim: EngineClaim;
  /** Where the app listens, `host:port`. */
  readonly address: string;
};

/** What the engine's main thread measures of a worker from outside. */
export type WorkerFigures = {
  readonly thread: number;
  /** V8's heap, bytes; undefined when the worker does not answer. */
  readonly heap?: {
    readonly used: number;
    readonly total: number;
    readonly limit: number;
    /** What lies outside of V8's heap: linear memories, buffers. */
    readonly external: number;
  };
  /** CPU time since the worker began, milliseconds. */
  readonly cpuMs: number;
  /** Share of its time in which its event loop had something to do, 0 to 1, since the worker began. */
  readonly utilization: number;
};

/** What the shell wants to know from the engine's main thread. */
export type ShellQuestion =
  | { readonly kind: 'workers' }
  /** Samples a worker's stacks. */
  | { readonly kind: 'profile'; readonly thread: number; readonly milliseconds: number };

export type ShellAnswer =
  | { readonly kind: 'workers'; readonly workers: readonly WorkerFigures[] }
  /** JSON of a .cpuprofile. */
  | { readonly kind: 'profile'; readonly profile: string }
  | { readonly kind: 'failed'; readonly message: string };

/** What a worker tells on a port of its own when asked; it answers only between two turns of guest code. */
export type Inspection = 'status' | 'trace';

/** Main thread → shell. */
export type ShellRequest =
  | { readonly type: 'exec'; readonly exec: ExecStart; readonly fds: readonly number[] }
  | { readonly type: 'exec-signal'; readonly id: string; readonly signal: number }
  | { readonly type: 'exec-resize'; readonly id: string; readonly size: TerminalSize }
  | { readonly type: 'answer'; readonly question: number; readonly answer: ShellAnswer };

/** Shell → main thread. */
export type ShellReply =
  | ExecReply
  | { readonly type: 'ask'; readonly question: number; readonly about: ShellQuestion }
  /** To be passed on to a worker; the port is closed if there is no such worker. */
  | {
      readonly type: 'inspect';
      readonly thread: number;
      readonly inspection: Inspection;
      readonly port: MessagePort;
    };
