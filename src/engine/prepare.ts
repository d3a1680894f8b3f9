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

/**
 * Fetches, checks and transpiles an app in a throwaway process, so that nothing an image brings is parsed in a process
 * that lives on. Rejects with the one reason why the app cannot run.
 */
export function prepare(
  job: PrepareJob,
  options: {
    readonly timeoutMs?: number;
    readonly signal?: AbortSignal;
    /** Told what was wrong in the store and has been made again. */
    readonly warn?: (line: string) => void;
    /** Takes note of the entries, which were made or checked. */
    readonly checked?: CheckedFiles;
  } = {},
): Promise<PreparedApp> {
  if (options.signal?.aborted === true) return Promise.reject(cancelled());
  const { node, preparer } = findInstallation();
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
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
      timeoutMs,
    );
    const onAbort = (): void => stop(cancelled());
    options.signal?.addEventListener('abort', onAbort, { once: true });
    child.stderr?.on('data', (chunk: Buffer) => {
      tail = (tail + chunk.toString('utf8')).slice(-2048);
    });
    child.on('error', (error) =>
      reject(
        new ShimError('unavailable', `the preparer could not be started: ${error.message}`, { cause: error }),
      ),
    );
    child.once('message', (message) => {
      const reply = message as PrepareReply;
      if (reply.type === 'failed') {
        reject(new ShimError(reply.code, reply.message));
        return;
      }
      for (const line of reply.warnings) options.warn?.(line);
      options.checked?.note(reply.prepared, reply.checked);
      resolve(reply.prepared);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      reject(
        new ShimError(
          'internal',
          `the preparer ended without an answer (${signal ?? `exit code ${code}`}): ${tail.trim() || 'no message'}`,
        ),
      );
    });
    child.send(job);
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
