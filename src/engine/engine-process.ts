import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { availableParallelism, constants } from 'node:os';
import type { Duplex } from 'node:stream';
import { ShimError } from '../error.ts';
import { sendDescriptors, socketPair } from '../linux.ts';
import { encodeFrame, FrameReader } from './channel-frames.ts';
import type { ExecStart, RunningExec } from './exec-messages.ts';
import { findInstallation } from './installation.ts';
import type { ClaimReport, EngineClaim, EngineReply, EngineRequest, LearnedCode } from './messages.ts';

export type { ExecStream, RunningExec, TerminalSize } from './exec-messages.ts';
export type {
  CallFilter,
  ClaimReport,
  ClaimVolume,
  EngineClaim,
  EngineOutput,
  EngineSecurity,
  NetworkTarget,
  VolumeGrant,
} from './messages.ts';

/** How an engine ended. */
export type EngineExit = {
  /** 128+n when signal n killed it. */
  readonly exitCode: number;
  readonly signal: NodeJS.Signals | null;
  readonly exitedAt: Date;
  /** The end of what it wrote to its own standard error, when it did not end cleanly. */
  readonly reason?: string;
};

/** What an engine cannot become later: a process with threads takes no other label, and with it may enter no namespace. */
export type EngineBirth = {
  /** SELinux label. */
  readonly label: string;
  /** Absolute path of the network namespace; undefined for that of its parent. */
  readonly networkPath: string | undefined;
};

export type EngineSpawnOptions = {
  /** Descriptors of ours that the engine inherits as its 1 and 2; the command line uses them for the guest's output. */
  readonly inheritOutput?: boolean;
  /** Absolute path of the launcher, through which an engine boots without io_uring. */
  readonly launcher?: string;
  /** With the launcher only: what the engine is from its first instruction on. */
  readonly birth?: EngineBirth;
  /** Told the pid at once; what it does is waited for, and when it fails the engine is ended. */
  readonly place?: (pid: number) => Promise<void>;
  /** Time for booting, milliseconds. */
  readonly bootTimeoutMs?: number;
};

/**
 * A node that starts many containers at once boots many engines at once: each that is given up has to be booted again by
 * the same few processors. Below the two minutes of a kubelet's call, so that the reason is still heard.
 */
const defaultBootTimeoutMs = 100_000;

/** Time for loading an app or for beginning to serve, milliseconds: a guest may spin in its start-up code. */
const claimTimeoutMs = 60_000;

/** Exit code of a command whose engine has gone: as if it had been killed. */
const killedExitCode = 137;

/** Bytes of an engine's own standard error that are kept. */
const maxReasonBytes = 4096;

/**
 * Flags of an engine, none of them V8's (`refuseCodeFromStrings`): no prototype setter, no debugger for whoever can send SIGUSR1. No more
 * threads that compile than cores: they would only keep the first request waiting (two cores, 12 MB: 77 -> 66 ms).
 */
export const engineFlags: readonly string[] = [
  '--no-warnings',
  '--disable-proto=delete',
  '--disable-sigusr1',
  `--v8-pool-size=${Math.min(4, availableParallelism())}`,
];

/** V8 copies a module twice before it has it: in huge pages 9 MB take 5 ms instead of 14 (and a process 0 to 2 MB more). */
const hugePages = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' };

/** Node ends where it may not read the node's OpenSSL configuration, and no container's label may. */
const noTlsConfig = { OPENSSL_CONF: '/dev/null' };

/**
 * One engine, seen from its parent. It is spawned idle, claimed once for a container, then started; it ends by itself,
 * by a signal or when its parent goes away. SIGTERM and SIGINT make it finish its requests and exit with 0.
 */
export class EngineProcess {
  readonly pid: number;
  readonly exited: Promise<EngineExit>;
  readonly #child: ChildProcess;
  /** Our end of the socket for messages; the engine's is its descriptor 3 (`ParentChannel`). */
  readonly #channel: Duplex;
  readonly #rehearsed = Promise.withResolvers<void>();
  /** Our end of the socket that takes descriptors into the engine. */
  readonly #handover: number;
  /** Commands that run in its shell → what is to be told of their end. */
  readonly #execs = new Map<string, (exitCode: number) => void>();
  #pending: { resolve(reply: EngineReply): void; reject(error: ShimError): void } | undefined;

  private constructor(child: ChildProcess, pid: number, handover: number) {
    this.#child = child;
    this.#channel = child.stdio[3] as Duplex;
    this.pid = pid;
    this.#handover = handover;
    this.exited = this.#watch();
  }

  /** Boots an engine and resolves when it waits to be claimed. Rejects `unavailable` when it does not come up. */
  static async spawn(options: EngineSpawnOptions = {}): Promise<EngineProcess> {
    const { node, engine } = findInstallation();
    const output = options.inheritOutput === true ? 'inherit' : 'ignore';
    const [program = node, ...args] = launchCommand(options, [node, ...engineFlags, engine]);
    const [handover, theirs] = socketPair();
    const child = spawn(program, args, {
      cwd: '/',
      detached: true,
      env: { ...hugePages, ...(options.birth === undefined ? {} : noTlsConfig) },
      stdio: ['ignore', output, options.inheritOutput === true ? 'inherit' : 'pipe', 'pipe', theirs],
    });
    closeSync(theirs);
    const { pid } = child;
    if (pid === undefined) {
      closeSync(handover);
      const error = await new Promise<Error>((resolve) => child.once('error', resolve));
      throw new ShimError('unavailable', `the engine process could not be started: ${error.message}`, {
        cause: error,
      });
    }
    const process_ = new EngineProcess(child, pid, handover);
    const ready = process_.#reply('ready', 'boot', options.bootTimeoutMs ?? defaultBootTimeoutMs);
    const placed = (options.place?.(pid) ?? Promise.resolve()).catch((error: unknown) => {
      process_.signal('SIGKILL');
      throw error;
    });
    // The placing first: what it says is why an engine that it ended does not come up.
    await Promise.all([placed, ready]);
    return process_;
  }

  /**
   * Has an engine that waits go through a claim and some requests with a small app of its own, so that the real ones find
   * warm code. It may be claimed at any time meanwhile. Resolves when that is over, however it went.
   */
  rehearse(): Promise<void> {
    this.#send({ type: 'rehearse' });
    return Promise.race([this.#rehearsed.promise, this.exited.then(() => undefined)]);
  }

  /** Makes the engine that of one container: namespaces, outputs, app. Rejects with the reason the app cannot run. */
  async claim(claim: EngineClaim): Promise<ClaimReport> {
    this.#send({ type: 'claim', claim });
    return (await this.#reply('claimed', 'load its app', claimTimeoutMs)).report;
  }

  /** Listens and serves; resolves with the addresses. Rejects with the reason, `address-in-use` among them. */
  async start(): Promise<{ readonly addresses: readonly string[] }> {
    this.#send({ type: 'start' });
    const reply = await this.#reply('started', 'begin to serve', claimTimeoutMs);
    return { addresses: reply.addresses };
  }

  /** Asks the app, which listens, for some paths, and gives the code that V8 made of it. */
  async learn(paths: readonly string[]): Promise<readonly LearnedCode[]> {
    this.#send({ type: 'learn', paths });
    return (await this.#reply('learned', 'learn its code', claimTimeoutMs)).code;
  }

  /** Sends a signal; an engine that is gone already is no error. */
  signal(signal: NodeJS.Signals | number): void {
    this.#child.kill(signal);
  }

  /**
   * Runs a command in the engine's debug shell, with copies of descriptors for the streams that it names. Throws
   * `unavailable` when the engine has gone.
   */
  exec(start: ExecStart, fds: readonly number[]): RunningExec {
    const { id } = start;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw goneError('it has exited');
    try {
      sendDescriptors(this.#handover, fds);
    } catch (error) {
      throw goneError(ShimError.from(error).message);
    }
    const { promise: exited, resolve } = Promise.withResolvers<number>();
    this.#execs.set(id, resolve);
    this.#send({ type: 'exec', exec: start });
    return {
      pid: this.pid,
      exited,
      signal: (signal) => this.#send({ type: 'exec-signal', id, signal }),
      resize: (size) => this.#send({ type: 'exec-resize', id, size }),
    };
  }

  #execExited(id: string, exitCode: number): void {
    const tell = this.#execs.get(id);
    this.#execs.delete(id);
    tell?.(exitCode);
  }

  #onMessage(reply: EngineReply): void {
    if (reply.type === 'exec-exited') this.#execExited(reply.id, reply.exitCode);
    else if (reply.type === 'rehearsed') this.#rehearsed.resolve();
    else this.#pending?.resolve(reply);
  }

  #send(request: EngineRequest): void {
    this.#channel.write(encodeFrame(request), (error) => {
      if (error) this.#pending?.reject(goneError(error.message));
    });
  }

  #reply<T extends EngineReply['type']>(
    type: T,
    what: string,
    timeoutMs: number,
  ): Promise<Extract<EngineReply, { type: T }>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#child.kill('SIGKILL');
        settle.reject(
          new ShimError(
            'deadline-exceeded',
            `the engine process ${this.pid} did not ${what} within ${timeoutMs} ms`,
          ),
        );
      }, timeoutMs);
      const settle = {
        resolve: (reply: EngineReply): void => {
          clearTimeout(timer);
          this.#pending = undefined;
          if (reply.type === 'failed') reject(new ShimError(reply.code, reply.message));
          else if (reply.type === type) resolve(reply as Extract<EngineReply, { type: T }>);
          else
            reject(
              new ShimError('internal', `the engine answered "${reply.type}" where "${type}" was expected`),
            );
        },
        reject: (error: ShimError): void => {
          clearTimeout(timer);
          this.#pending = undefined;
          reject(error);
        },
      };
      this.#pending = settle;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null)
        settle.reject(goneError('it has exited'));
    });
  }

  #watch(): Promise<EngineExit> {
    const reader = new FrameReader();
    let wrong = '';
    this.#channel
      .on('data', (chunk: Buffer) => {
        try {
          for (const message of reader.push(chunk)) this.#onMessage(message as EngineReply);
        } catch (thrown) {
          // Nothing of ours writes such a thing.
          wrong = `it was ended, since ${ShimError.from(thrown).message}`;
          this.#channel.destroy();
          this.#child.kill('SIGKILL');
        }
      })
      // Who writes is told; the end of the process says the rest.
      .on('error', () => {});
    let tail = Buffer.alloc(0);
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      tail = Buffer.concat([tail, chunk]).subarray(-maxReasonBytes);
    });
    return new Promise((resolve) => {
      let exitedAt = new Date();
      this.#child.once('exit', () => {
        exitedAt = new Date();
      });
      // Not before all of its standard error was read.
      this.#child.once('close', (code, signal) => {
        const exitCode = signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0);
        const reason = wrong || tail.toString('utf8').trim();
        closeSync(this.#handover);
        for (const id of [...this.#execs.keys()]) this.#execExited(id, killedExitCode);
        this.#pending?.reject(goneError(reason === '' ? `it ended with exit code ${exitCode}` : reason));
        resolve({
          exitCode,
          signal,
          exitedAt,
          ...(exitCode !== 0 && reason !== '' ? { reason } : {}),
        });
      });
    });
  }
}

function launchCommand(
  { launcher, birth }: EngineSpawnOptions,
  command: readonly string[],
): readonly string[] {
  if (birth === undefined) return launcher === undefined ? command : [launcher, 'engine', ...command];
  if (launcher === undefined)
    throw new ShimError('unsupported', `no launcher is there to give an engine the label "${birth.label}"`);
  const { label, networkPath } = birth;
  const network = networkPath === undefined ? [] : ['-netns', networkPath];
  return [launcher, 'engine', '-label', label, ...network, ...command];
}

function goneError(why: string): ShimError {
  return new ShimError('unavailable', `the engine process is gone: ${why}`);
}
