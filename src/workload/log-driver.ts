import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { ShimError } from '../error.ts';
import { makeFifo } from '../linux.ts';

/** How long a driver has to say that it is ready, milliseconds. */
const readyTimeoutMs = 10_000;

/** How long a driver has to end once its input has ended, milliseconds; then comes SIGTERM, and in the end SIGKILL. */
const endTimeoutMs = 10_000;
const terminateTimeoutMs = 2_000;

/** Bytes of a driver's own standard error that are kept for the reason of a failure. */
const maxComplaintBytes = 2_048;

/** Descriptors that a driver inherits besides 0, 1 and 2: the output of both streams, and where it says that it is ready. */
const readyDescriptor = 5;

/** The container a driver works for. */
export type LogOwner = {
  readonly id: string;
  /** containerd's namespace. */
  readonly namespace: string;
  /** Directory for the FIFOs between the workload and the driver; goes with the container. */
  readonly directory: string;
};

/** FIFOs of one container's output, which the workload writes to and the driver reads from. */
export type LogFifos = { readonly stdout: string; readonly stderr: string };

/** Whether a stream's URI names a log driver. */
export function isLogDriver(uri: string): boolean {
  return /^binary(?:-v2)?:\/\//.test(uri);
}

/** Makes the FIFOs for a driver. Whoever keeps them from ending opens them before the driver starts. */
export function makeLogFifos(directory: string): LogFifos {
  const fifos = { stdout: join(directory, 'log-stdout'), stderr: join(directory, 'log-stderr') };
  for (const path of [fifos.stdout, fifos.stderr]) makeFifo(path, 0o600);
  return fifos;
}

/**
 * A program that takes a container's output (containerd's `binary://` logging, which nerdctl's and others' log drivers
 * use; containerd.md 4): it reads stdout from descriptor 3 and stderr from 4 and says on 5 that it is ready.
 */
export class LogDriver {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = new Promise((resolve) => child.once('exit', () => resolve()));
  }

  /**
   * Starts the program of `binary:///path?key=value` with `key value` as arguments and waits until it is ready. Somebody
   * holds the FIFOs open, or it would read their end at once. Throws `invalid-argument` for a URI without an absolute
   * path, `failed-precondition` when the program does not start, says nothing in time or ends.
   */
  static async start(uri: string, { id, namespace }: LogOwner, fifos: LogFifos): Promise<LogDriver> {
    const { path, args } = parseUri(uri);
    const ends = [fifos.stdout, fifos.stderr].map((fifo) => openSync(fifo, constants.O_RDONLY));
    try {
      const child = spawn(path, args, {
        cwd: '/',
        detached: true,
        env: { CONTAINER_ID: id, CONTAINER_NAMESPACE: namespace },
        stdio: ['ignore', 'ignore', 'pipe', ...ends, 'pipe'],
      });
      const driver = new LogDriver(child);
      await driver.#ready(uri);
      return driver;
    } finally {
      for (const fd of ends) closeSync(fd);
    }
  }

  /** Waits for its end, which comes with that of its input: nobody holds the FIFOs any more. Forces it when it stays. */
  async end(): Promise<void> {
    if (await this.#endsWithin(endTimeoutMs)) return;
    this.#child.kill('SIGTERM');
    if (await this.#endsWithin(terminateTimeoutMs)) return;
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async #endsWithin(milliseconds: number): Promise<boolean> {
    const late = Promise.withResolvers<boolean>();
    const timer = setTimeout(late.resolve, milliseconds, false);
    const ended = await Promise.race([this.#exited.then(() => true), late.promise]);
    clearTimeout(timer);
    return ended;
  }

  /** A byte on its descriptor, or the end of it, says that the driver is ready. */
  async #ready(uri: string): Promise<void> {
    const child = this.#child;
    const streams: readonly unknown[] = child.stdio;
    const signal = streams[readyDescriptor];
    if (!(signal instanceof Readable))
      throw new ShimError('internal', 'a log driver has no ready descriptor');
    let complaint = '';
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      complaint = (complaint + chunk).slice(0, maxComplaintBytes);
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const refuse = (why: string): void => {
      const more = complaint.trim() === '' ? '' : `: ${complaint.trim()}`;
      reject(new ShimError('failed-precondition', `log driver "${uri}" ${why}${more}`));
    };
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      refuse(`was not ready within ${readyTimeoutMs} ms`);
    }, readyTimeoutMs);
    child.once('error', (error) => refuse(`cannot be started: ${error.message}`));
    // A driver that fails at once closes it too: its exit, where it is known already, wins.
    signal.once('close', () => setImmediate(resolve));
    signal.once('data', () => resolve());
    child.once('exit', (code, killedBy) => refuse(`ended with ${killedBy ?? `exit code ${code}`}`));
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal.destroy();
    }
  }
}

function parseUri(uri: string): { readonly path: string; readonly args: readonly string[] } {
  const url = URL.parse(uri);
  const path = url === null ? '' : decodeURIComponent(url.pathname);
  if (url === null || url.host !== '' || !path.startsWith('/') || path === '/') {
    throw new ShimError(
      'invalid-argument',
      `log driver "${uri}" names no absolute path: give "binary:///path?key=value"`,
    );
  }
  return {
    path,
    args: [...url.searchParams].flatMap(([key, value]) => (value === '' ? [key] : [key, value])),
  };
}
