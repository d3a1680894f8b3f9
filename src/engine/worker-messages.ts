import type { MessagePort } from 'node:worker_threads';
import type { ErrorCode } from '../error.ts';
import type { CompiledComponent } from './core-modules.ts';
import type { ClaimReport, EngineClaim } from './messages.ts';
import type { Inspection } from './shell-messages.ts';

/** The app a worker is to run. */
export type WorkerInput = {
  readonly claim: EngineClaim;
  readonly components: readonly CompiledComponent[];
  /** Descriptors of the outputs, this worker's own; undefined discards. */
  readonly stdout: number | undefined;
  readonly stderr: number | undefined;
  /** The network namespace the worker has to enter itself; undefined when it was born in the right one. */
  readonly networkFd: number | undefined;
  /** Where the worker notes what it does, `RequestBoard`. */
  readonly board: SharedArrayBuffer;
  /** Instances that the workers of the app have and may have, `PermitLedger`. */
  readonly permits: SharedArrayBuffer;
  /** The worker's number among them. */
  readonly worker: number;
  /** Whether another worker has told already what there is to tell of the app. */
  readonly quiet: boolean;
  /** Whether a guest of the app has kept another worker's thread for so long that it was ended or got a stand-in. */
  readonly wary: boolean;
};

export type WorkerRequest =
  /** Go through everything once with a small app of ours, while the modules of the app are made; not answered. */
  | { readonly type: 'warm-up' }
  /** Go through everything several times with it, until there is an app to load. */
  | { readonly type: 'rehearse' }
  /** The plan of a component that is about to be loaded, to be made ready meanwhile; not answered. */
  | { readonly type: 'plan'; readonly digest: string; readonly text: string }
  | { readonly type: 'load'; readonly input: WorkerInput }
  /** Serve on a listening socket; the descriptor is the worker's own. */
  | { readonly type: 'serve'; readonly fd: number; readonly address: string; readonly announce: boolean }
  /** Take no new connections and end with the last; `keepIdle` when the app goes on in other workers. */
  | { readonly type: 'drain'; readonly keepIdle: boolean }
  /** To be answered on the port, `Inspection`. */
  | { readonly type: 'inspect'; readonly inspection: Inspection; readonly port: MessagePort };

export type WorkerReply =
  /** Its code is loaded; it waits for an app. */
  | { readonly type: 'ready' }
  | { readonly type: 'loaded'; readonly milliseconds: ClaimReport['milliseconds'] }
  | { readonly type: 'rehearsed'; readonly problem: string | undefined }
  | { readonly type: 'serving' }
  /** A guest goes on while nobody watches the board; told once until somebody stops watching again. */
  | { readonly type: 'active' }
  | { readonly type: 'drained' }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string };
