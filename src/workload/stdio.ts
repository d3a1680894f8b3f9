import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, isAbsolute } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineOutput, ExecStream } from '../engine/engine-process.ts';
import { ShimError } from '../error.ts';
import { bytesInPipe, labelFile } from '../linux.ts';
import { isLogDriver, LogDriver, type LogOwner, makeLogFifos } from './log-driver.ts';

/** Where containerd's client wants a task's streams; '' for none. */
export type StdioPaths = { readonly stdin: string; readonly stdout: string; readonly stderr: string };

/** How long output that nobody reads is kept after the task's end, milliseconds. As long as runc's shim waits. */
const drainTimeoutMs = 10_000;

/** How long the answer to a creation that failed waits for its reason to be read, milliseconds. */
const reasonReadTimeoutMs = 1_000;

/** Pause between two looks at a FIFO that has bytes left, milliseconds. */
const drainPollMs = 5;

const appending = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT;

/** Most bytes of a failure's line: one atomic write to a pipe (PIPE_BUF). */
const maxReasonBytes = 4096;

/**
 * Reads a stream's URI (containerd.md 4): a bare path or `fifo://` is a FIFO, `file://` a file to append to. Throws
 * `invalid-argument` for a path that is not absolute, `unimplemented` for other schemes.
 */
export function parseOutput(uri: string): EngineOutput {
  if (uri === '') return { kind: 'null' };
  const separator = uri.indexOf('://');
  const scheme = separator < 0 ? 'fifo' : uri.slice(0, separator);
  const path = separator < 0 ? uri : (uri.slice(separator + 3).split('?', 1)[0] ?? '');
  if (scheme !== 'fifo' && scheme !== 'file') {
    throw new ShimError(
      'unimplemented',
      `output "${uri}" is not supported: this shim writes to FIFOs, to "file://" paths and to "binary://" log drivers`,
    );
  }
  if (!isAbsolute(path)) throw new ShimError('invalid-argument', `output "${uri}" is not an absolute path`);
  return { kind: scheme, path };
}

/**
 * A task's streams as the host holds them: the engine writes to them itself, but the host's own descriptors keep what
 * it wrote from being lost with it until the client has read it, and let the host say why a start failed.
 */
export class TaskStdio {
  readonly stdout: EngineOutput;
  readonly stderr: EngineOutput;
  /** Outputs, whose bytes are waited for at the end, and the read end of stdin, whose bytes nobody wants any more. */
  readonly #fifos: number[];
  readonly #files: number[] = [];
  readonly #stdin: number | undefined;
  /** A write end of stdin: while it is open, its end is ours to tell and not that of whoever writes and goes. */
  #stdinHeld: number | undefined;
  readonly #driver: LogDriver | undefined;
  #closed: Promise<void> | undefined;

  private constructor(
    stdout: EngineOutput,
    stderr: EngineOutput,
    fifos: number[],
    stdin: number | undefined,
    driver: LogDriver | undefined,
    stdinHeld: number | undefined,
  ) {
    this.stdout = stdout;
    this.stderr = stderr;
    this.#fifos = fifos;
    this.#stdin = stdin;
    this.#driver = driver;
    this.#stdinHeld = stdinHeld;
  }

  /**
   * Opens the FIFOs without waiting for a reader, makes the files, starts the log driver. `holdStdin` keeps the input
   * open until `closeStdin`. Without an owner there is no log driver. Throws what `parseOutput` and `LogDriver.start`
   * throw, `invalid-argument`.
   */
  static async open(
    paths: StdioPaths,
    owner: LogOwner | undefined,
    { holdStdin = false }: { readonly holdStdin?: boolean } = {},
  ): Promise<TaskStdio> {
    // One driver takes both streams, and both URIs name it.
    const driverUri = [paths.stdout, paths.stderr].find(isLogDriver);
    const driven = driverUri === undefined || owner === undefined ? undefined : makeLogFifos(owner.directory);
    const stdout = parseOutput(driven?.stdout ?? paths.stdout);
    const stderr = parseOutput(driven?.stderr ?? paths.stderr);
    const fifos: number[] = [];
    let stdin: number | undefined;
    let stdinHeld: number | undefined;
    let driver: LogDriver | undefined;
    try {
      // The read end of stdin: without one the client would wait for it. No guest reads it, as today; a shell does.
      if (paths.stdin !== '') stdin = openFifo(paths.stdin, constants.O_RDONLY);
      if (holdStdin && stdin !== undefined) stdinHeld = openFifo(paths.stdin, constants.O_WRONLY);
      for (const output of [stdout, stderr]) {
        // O_RDWR: neither a reader that comes late nor one that goes away is an error.
        if (output.kind === 'fifo') fifos.push(openFifo(output.path, constants.O_RDWR));
        if (output.kind === 'file') await mkdir(dirname(output.path), { recursive: true });
      }
      if (driverUri !== undefined && owner !== undefined && driven !== undefined)
        driver = await LogDriver.start(driverUri, owner, driven);
    } catch (error) {
      for (const fd of [...fifos, stdin, stdinHeld]) if (fd !== undefined) closeSync(fd);
      throw error;
    }
    return new TaskStdio(stdout, stderr, fifos, stdin, driver, stdinHeld);
  }

  /**
   * What is open, by stream, for a process that gets copies; `close` closes it. Files are opened now. Throws `invalid-argument`
   * for a file that cannot be.
   */
  openDescriptors(): ReadonlyMap<ExecStream, number> {
    const open = new Map<ExecStream, number>();
    if (this.#stdin !== undefined) open.set('stdin', this.#stdin);
    const fifos = [...this.#fifos];
    for (const name of ['stdout', 'stderr'] as const) {
      const output = this[name];
      const fd = output.kind === 'file' ? this.#openFile(output.path) : fifos.shift();
      if (output.kind !== 'null' && fd !== undefined) open.set(name, fd);
    }
    return open;
  }

  /** Gives the FIFOs a label of SELinux, so that a process of the container may use them. Throws as `labelFile` does. */
  label(label: string): void {
    for (const fd of [...this.#fifos, ...(this.#stdin === undefined ? [] : [this.#stdin])])
      labelFile(fd, label);
  }

  #openFile(path: string): number {
    let fd: number;
    try {
      fd = openSync(path, appending, 0o644);
    } catch (cause) {
      throw new ShimError('invalid-argument', `output "${path}" cannot be opened: ${String(cause)}`, {
        cause,
      });
    }
    this.#files.push(fd);
    return fd;
  }

  /** Lets go of the held input: it ends when the client's end does. Idempotent. */
  closeStdin(): void {
    if (this.#stdinHeld !== undefined) closeSync(this.#stdinHeld);
    this.#stdinHeld = undefined;
  }

  /** Writes one line to the container's standard error, so that its log tells why it did not start. */
  writeReason(reason: string): void {
    const output = this.stderr.kind === 'null' ? this.stdout : this.stderr;
    if (output.kind !== 'fifo' && output.kind !== 'file') return;
    const line = Buffer.from(`${reason.replaceAll(/[\n\r]+/g, ' ')}\n`);
    const bytes =
      line.length > maxReasonBytes
        ? Buffer.concat([line.subarray(0, maxReasonBytes - 1), Buffer.from('\n')])
        : line;
    try {
      if (output.kind === 'fifo') {
        const fd = openFifo(output.path, constants.O_RDWR);
        writeSync(fd, bytes);
        closeSync(fd);
      } else {
        const fd = openSync(output.path, appending, 0o644);
        writeSync(fd, bytes);
        closeSync(fd);
      }
    } catch {
      // The reason also goes into the task's error; a full or vanished pipe must not hide that one.
    }
  }

  /**
   * As `writeReason`, of a creation that fails, and waits until the client has read it, for a second at most: containerd reads no
   * more once it has the answer.
   */
  async tellReason(reason: string): Promise<void> {
    this.writeReason(reason);
    await this.#untilRead(reasonReadTimeoutMs);
  }

  /** Lets go of the streams once all output was read, after ten seconds at the latest: the client then sees their end, and a log driver ends. */
  close(timeoutMs = drainTimeoutMs): Promise<void> {
    this.#closed ??= this.#drain(timeoutMs);
    return this.#closed;
  }

  async #drain(timeoutMs: number): Promise<void> {
    this.closeStdin();
    await this.#untilRead(timeoutMs);
    for (const fd of [...this.#fifos.splice(0), ...this.#files.splice(0)]) closeSync(fd);
    if (this.#stdin !== undefined) closeSync(this.#stdin);
    await this.#driver?.end();
  }

  async #untilRead(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    // A driver holds its ends itself: what it has not read yet stays where it is.
    const unread = (): boolean => this.#driver === undefined && this.#fifos.some((fd) => bytesInPipe(fd) > 0);
    while (unread() && performance.now() < deadline) await sleep(drainPollMs);
  }
}

function openFifo(uri: string, flags: number): number {
  const path = uri.startsWith('fifo://') ? uri.slice('fifo://'.length) : uri;
  let fd: number;
  try {
    fd = openSync(path, flags | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ShimError('invalid-argument', `FIFO "${path}" cannot be opened: ${String(cause)}`, { cause });
  }
  if (fstatSync(fd).isFIFO()) return fd;
  closeSync(fd);
  throw new ShimError('invalid-argument', `"${path}" is not a FIFO; for a file give "file://${path}"`);
}
