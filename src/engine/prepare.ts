import { spawn } from 'node:child_process';
import { type ErrorCode, ShimError } from '../error.ts';
import type { CheckedFiles } from './checked-files.ts';
import { findInstallation } from './installation.ts';
import type { PreparedApp } from './prepared-app.ts';
import type { CheckedFile } from './sealed-file.ts';

/** Where an app is taken from. */
export type PrepareSource =
  /** A `spin.toml` on disk; `direct` mounts folders where they are instead of copying. */
  | { readonly kind: 'folder'; readonly manifest: string; readonly mode: 'copy' | 'direct' }
  /** An OCI image layout on disk. */
  | { readonly kind: 'layout'; readonly path: string; readonly reference?: string }
  | { readonly kind: 'registry'; readonly reference: string; readonly insecure: boolean }
  /** An image in containerd's content store; its root filesystem is where a docker-built app lies. */
  | {
      readonly kind: 'containerd';
      readonly address: string;
      readonly namespace: string;
      readonly image: string;
      readonly rootfs: string;
    }
  /** The root filesystem of a container that containerd knows no image of. */
  | { readonly kind: 'rootfs'; readonly rootfs: string };

export type PrepareJob = {
  readonly source: PrepareSource;
  /** The store of blobs, assets and transpiled components; made when missing, readable by its owner only. */
  readonly storeDir: string;
  /** Where files of an app in a folder are copied to. */
  readonly workDir: string;
  /** Component ids to keep, `SPIN_COMPONENTS_TO_RETAIN`. */
  readonly retain?: readonly string[];
  /** Bytes that prepared components may take in the store, and the same for blobs; default 2 GiB. */
  readonly maxCacheBytes?: number;
  /** Has jco transpile also what our linker would take; tests hold the two against each other. */
  readonly alwaysJco?: boolean;
};

/** What the preparer answers, one message. */
export type PrepareReply =
  | {
      readonly type: 'prepared';
      readonly prepared: PreparedApp;
      /** What was wrong in the store and has been made again. */
      readonly warnings: readonly string[];
      /** The entries, which were made or checked. */
      readonly checked: readonly CheckedFile[];
    }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string };

/** Time for one app, milliseconds; large JavaScript components take 1 to 2 s. */
const defaultTimeoutMs = 120_000;

/** V8 heap of a preparer, MiB: an image that needs more is refused with the process, not with the node. */
const maxHeapMiB = 1024;

type PrepareOptions = {
  /** For all of it, a second run included. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Told what was wrong in the store and has been made again, and of a preparer that is run once more. */
  readonly warn?: (line: string) => void;
  /** Takes note of the entries, which were made or checked. */
  readonly checked?: CheckedFiles;
};

/** A preparer that ended by a signal that was not ours, without an answer. */
type Killed = { readonly type: 'killed'; readonly how: string };

/**
 * Fetches, checks and transpiles an app in a throwaway process, so that nothing an image brings is parsed in a process
 * that lives on. One that a signal ends is run once more, in the time that is left: V8 ends itself so where its own books
 * do not agree, now and then. Rejects with the one reason why the app cannot run.
 */
export async function prepare(job: PrepareJob, options: PrepareOptions = {}): Promise<PreparedApp> {
  const { timeoutMs = defaultTimeoutMs, signal, warn, checked } = options;
  const timeLimit = { timeoutMs, endsAt: performance.now() + timeoutMs };
  let reply = await runPreparer(job, timeLimit, signal);
  if (reply.type === 'killed') {
    warn?.(`${reply.how}; it is run once more`);
    reply = await runPreparer(job, timeLimit, signal);
  }
  if (reply.type === 'killed') throw new ShimError('internal', reply.how);
  if (reply.type === 'failed') throw new ShimError(reply.code, reply.message);
  for (const line of reply.warnings) warn?.(line);
  checked?.note(reply.prepared, reply.checked);
  return reply.prepared;
}

/** One preparer's life. Rejects when it cannot be run, is late or not waited for, or ends by itself without an answer. */
function runPreparer(
  job: PrepareJob,
  { timeoutMs, endsAt }: { readonly timeoutMs: number; readonly endsAt: number },
  signal: AbortSignal | undefined,
): Promise<PrepareReply | Killed> {
  if (signal?.aborted === true) return Promise.reject(cancelled());
  const { node, preparer } = findInstallation();
  const child = spawn(node, ['--no-warnings', `--max-old-space-size=${maxHeapMiB}`, preparer], {
    cwd: '/',
    detached: true,
    env: preparerEnvironment(),
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  return new Promise((resolve, reject) => {
    let tail = '';
    const stop = (error: ShimError): void => {
      child.kill('SIGKILL');
      reject(error);
    };
    const timer = setTimeout(
      () => stop(new ShimError('deadline-exceeded', `preparing the app took longer than ${timeoutMs} ms`)),
      Math.max(0, endsAt - performance.now()),
    );
    const onAbort = (): void => stop(cancelled());
    signal?.addEventListener('abort', onAbort, { once: true });
    child.stderr?.on('data', (chunk: Buffer) => {
      tail = (tail + chunk.toString('utf8')).slice(-2048);
    });
    child.on('error', (error) =>
      reject(
        new ShimError('unavailable', `the preparer could not be started: ${error.message}`, { cause: error }),
      ),
    );
    child.once('message', (message) => resolve(message as PrepareReply));
    child.once('close', (code, endedBy) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      const how = `the preparer ended without an answer (${endedBy ?? `exit code ${code}`}): ${tail.trim() || 'no message'}`;
      if (endedBy === null) reject(new ShimError('internal', how));
      else resolve({ type: 'killed', how });
    });
    // A preparer that is gone already tells so by its end.
    child.send(job, () => {});
  });
}

function cancelled(): ShimError {
  return new ShimError('unavailable', 'preparing the app was cancelled');
}

/** What a registry client needs of the environment: where credentials and certificates lie, and proxies. */
function preparerEnvironment(): Record<string, string | undefined> {
  const names = [
    'HOME',
    'PATH',
    'DOCKER_CONFIG',
    'XDG_CONFIG_HOME',
    'NODE_EXTRA_CA_CERTS',
    'NODE_COMPILE_CACHE',
  ];
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}
