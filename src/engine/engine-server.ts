import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import {
  duplicateFd,
  enterNetworkNamespace,
  listenTcp,
  newNetworkNamespace,
  refuseNewConnections,
} from '../linux.ts';
import { setNoNewPrivileges } from '../linux-rights.ts';
import { Phases } from '../telemetry/phases.ts';
import { readAppLimits } from './app-limits.ts';
import { Confinement, type GrantedPaths } from './confinement.ts';
import { type CompiledComponent, compileCoreModules, openEntries } from './core-modules.ts';
import { holdFiles } from './held-files.ts';
import { findInstallation } from './installation.ts';
import { instanceMemoryPages, limitInstanceMemory } from './instance-memory.ts';
import { formatAddress, parseListenAddress } from './listen-address.ts';
import type {
  ClaimPhase,
  EngineClaim,
  EngineOutput,
  EngineReply,
  EngineRequest,
  EngineSecurity,
  NetworkTarget,
} from './messages.ts';
import { PermitLedger } from './permits.ts';
import { RequestBoard } from './request-board.ts';
import { ShellFront } from './shell-front.ts';
import { closeHeld, makeWorkerDescriptors, openPagemap } from './worker-descriptors.ts';
import type { WorkerInput, WorkerReply, WorkerRequest } from './worker-messages.ts';

/** Time that requests in flight get after SIGTERM, milliseconds; Kubernetes' default grace period is 30 s. */
const defaultDrainTimeoutMs = 25_000;

/** V8 heap of a worker, MiB, where the guests' host objects live; linear memories are not counted in it. */
const maxWorkerHeapMiB = 512;

/** A worker that dies is replaced, but not more often than this within a minute. */
const maxReplacements = 5;
const replacementWindowMs = 60_000;

/** What a claimed engine holds. */
type Claimed = {
  readonly claim: EngineClaim;
  readonly components: readonly CompiledComponent[];
  readonly stdout: number | undefined;
  readonly stderr: number | undefined;
  board: RequestBoard;
  readonly permits: PermitLedger;
  worker: Worker;
  readonly listen: string;
  /** Where it listens, the port that the kernel chose included. */
  address: string;
  listenFd: number | undefined;
  replacements: number[];
};

/**
 * The engine's main thread. It boots with a worker that has its code loaded and waits; claimed, both enter the pod's
 * network namespace and the worker loads the app. A worker that dies is replaced. No guest code runs here.
 */
export class EngineServer {
  /** The worker that waits for the app, from the boot to the claim. */
  #spare: Worker | undefined;
  #claimed: Claimed | undefined;
  readonly #confinement = new Confinement();
  #ending = false;
  /** Opened at the boot, when this process may still open what is root's. */
  readonly #pagemapFd = openPagemap();
  readonly #shell = new ShellFront(
    () => {
      const claimed = this.#claimed;
      if (claimed === undefined) return undefined;
      return { claim: claimed.claim, address: claimed.address, workers: () => [claimed.worker] };
    },
    (exited) => this.#reply(exited),
  );

  /** Takes the process over: messages, signals, end. */
  run(): void {
    process.on('message', (message) => this.#onRequest(message as EngineRequest));
    process.on('disconnect', () => process.exit(0));
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => this.#drain());
    // Before the worker is made, so that it holds for all its threads; an engine executes nothing.
    setNoNewPrivileges();
    const spare = this.#startWorker();
    this.#spare = spare;
    reply(spare, 'ready').then(
      () => this.#reply({ type: 'ready' }),
      (thrown: unknown) => {
        process.stderr.write(`the worker could not be started: ${ShimError.from(thrown).message}\n`);
        process.exit(1);
      },
    );
  }

  #reply(reply: EngineReply): void {
    process.send?.(reply);
  }

  #onRequest(request: EngineRequest): void {
    if (request.type === 'rehearse') {
      void this.#rehearse().then(() => this.#reply({ type: 'rehearsed' }));
      return;
    }
    if (request.type !== 'claim' && request.type !== 'start') {
      this.#shell.handle(request);
      return;
    }
    const done = request.type === 'claim' ? this.#claim(request.claim) : this.#start();
    done.then(
      (reply) => this.#reply(reply),
      (thrown: unknown) => {
        const { code, message } = ShimError.from(thrown);
        this.#reply({ type: 'failed', code, message });
      },
    );
  }

  /** A rehearsal that fails costs the container that comes some milliseconds, no more. */
  async #rehearse(): Promise<void> {
    const worker = this.#spare;
    if (worker === undefined) return;
    worker.postMessage({ type: 'rehearse' } satisfies WorkerRequest);
    // A worker that ends meanwhile is told of where it ends.
    const { problem } = await reply(worker, 'rehearsed').catch(() => ({ problem: undefined }));
    if (problem !== undefined) process.stderr.write(`the rehearsal failed: ${problem}\n`);
  }

  async #claim(claim: EngineClaim): Promise<EngineReply> {
    const worker = this.#spare;
    if (worker === undefined)
      throw new ShimError('failed-precondition', 'this engine already belongs to a container');
    const phases = new Phases<ClaimPhase>();
    const memoryPages = instanceMemoryPages(claim.environment);
    if (memoryPages !== undefined) limitInstanceMemory(memoryPages);
    // First, so that an engine whose app has to be prepared again can be claimed again.
    const entries = openEntries(claim.prepared);
    phases.end('read');
    const components = await compileCoreModules(claim.prepared, entries);
    phases.end('compile');
    this.#spare = undefined;
    const networkFd = enterNetwork(claim.network);
    phases.end('network');
    const stdout = await openOutput(claim.stdout);
    const stderr = sameFile(claim.stdout, claim.stderr) ? stdout : await openOutput(claim.stderr);
    const confined =
      claim.security === undefined ? undefined : this.#confine(claim, claim.security, networkFd);
    phases.end('confine');
    const app = {
      claim: confined?.claim ?? claim,
      components,
      stdout,
      stderr,
      board: new RequestBoard(),
      permits: PermitLedger.of(readAppLimits(claim.environment).maxInstances),
    };
    const { listen, milliseconds } = await load(worker, {
      ...app,
      networkFd: confined === undefined ? networkFd : undefined,
      worker: 0,
      quiet: false,
    });
    phases.end('worker');
    if (networkFd !== undefined) closeSync(networkFd);
    this.#claimed = { ...app, worker, listen, address: listen, listenFd: undefined, replacements: [] };
    return {
      type: 'claimed',
      report: {
        milliseconds: { ...phases.ended, ...milliseconds },
        components: components.map(({ id, entry }) => ({ id, form: entry.form })),
        ...(confined === undefined ? {} : { landlock: confined.landlock }),
      },
    };
  }

  /** The last step before guest code: every thread into the pod's network, then away with every right of ours. */
  #confine(
    claim: EngineClaim,
    security: EngineSecurity,
    networkFd: number | undefined,
  ): { readonly claim: EngineClaim; readonly landlock: number } {
    if (networkFd !== undefined) this.#confinement.enterNetwork(networkFd);
    const held = holdFiles(claim);
    this.#confinement.apply(security, grantedPaths(held));
    return { claim: held, landlock: this.#confinement.landlock };
  }

  async #start(): Promise<EngineReply> {
    const claimed = this.#claimed;
    if (claimed === undefined)
      throw new ShimError('failed-precondition', 'the engine has to be claimed before it is started');
    const wanted = parseListenAddress(claimed.listen, 'the listen address');
    const { fd, port } = listenTcp(wanted);
    claimed.listenFd = fd;
    this.#confinement.dropListening();
    const address = formatAddress({ host: wanted.host, port });
    claimed.address = address;
    await serve(claimed.worker, fd, address, claimed.claim.announce ?? true);
    return { type: 'started', addresses: [address] };
  }

  #startWorker(): Worker {
    const descriptors = makeWorkerDescriptors(this.#pagemapFd);
    const worker = new Worker(findInstallation().worker, {
      env: {},
      workerData: descriptors,
      resourceLimits: { maxOldGenerationSizeMb: maxWorkerHeapMiB },
      name: 'guests',
      // Descriptors come from system calls and from the main thread; Node's own books do not hold them.
      trackUnmanagedFds: false,
    });
    let reason = 'it ended without an error';
    worker.on('error', (error) => {
      reason = error instanceof Error ? error.message : String(error);
    });
    worker.on('exit', () => {
      closeHeld(descriptors);
      this.#onWorkerExit(worker, reason);
    });
    return worker;
  }

  /** A worker that ends while serving is replaced by a new one on the same listening socket. */
  #onWorkerExit(worker: Worker, reason: string): void {
    if (this.#ending) return;
    if (this.#spare === worker) {
      process.stderr.write(`the waiting worker failed: ${reason}\n`);
      process.exit(1);
    }
    const claimed = this.#claimed;
    if (claimed === undefined || claimed.worker !== worker || claimed.listenFd === undefined) return;
    process.stderr.write(`worker failed: ${reason}\n`);
    tell(
      claimed.stderr,
      `the guests of this app ended with their requests and are started again: ${reason}${requestsOf(claimed.board)}`,
    );
    const now = performance.now();
    claimed.replacements = [...claimed.replacements.filter((at) => now - at < replacementWindowMs), now];
    if (claimed.replacements.length > maxReplacements) {
      process.stderr.write(
        `more than ${maxReplacements} workers failed within ${replacementWindowMs / 1000} s\n`,
      );
      process.exit(1);
    }
    claimed.worker = this.#startWorker();
    claimed.permits.forget(0);
    claimed.board = new RequestBoard();
    const { listenFd } = claimed;
    load(claimed.worker, { ...claimed, networkFd: undefined, worker: 0, quiet: true })
      .then(() => serve(claimed.worker, listenFd, claimed.address, false))
      .catch((thrown: unknown) => {
        process.stderr.write(`a new worker could not be started: ${ShimError.from(thrown).message}\n`);
        process.exit(1);
      });
  }

  /** Ends with 0 after requests in flight; a second signal changes nothing, SIGKILL is always there. */
  #drain(): void {
    if (this.#ending) return;
    this.#ending = true;
    const claimed = this.#claimed;
    if (claimed === undefined) process.exit(0);
    const timeoutMs = claimed.claim.drainTimeoutMs ?? defaultDrainTimeoutMs;
    setTimeout(() => {
      tell(
        claimed.stderr,
        `requests did not finish within ${timeoutMs} ms of SIGTERM and are cut off${requestsOf(claimed.board)}`,
      );
      process.exit(0);
    }, timeoutMs).unref();
    if (claimed.listenFd !== undefined) {
      closeDoor(claimed.listenFd);
      closeSync(claimed.listenFd);
    }
    claimed.worker.on('exit', () => process.exit(0));
    const drain: WorkerRequest = { type: 'drain' };
    claimed.worker.postMessage(drain);
    reply(claimed.worker, 'drained').finally(() => process.exit(0));
  }
}

/** Requests that a log line names at most. */
const maxNamed = 10;

/** The requests that end with a worker, for the end of a log line; the one whose guest is or was on the CPU first. */
function requestsOf(board: RequestBoard): string {
  const current = board.current();
  const { count, others } = board.inFlight(maxNamed);
  const named = [...(current === undefined ? [] : [current]), ...others].slice(0, maxNamed);
  if (named.length === 0) return '';
  const more = count > named.length ? ` and ${count - named.length} more` : '';
  return ` (${count === 1 ? 'request' : 'requests'} in flight: ${named.join('; ')}${more})`;
}

/** What the app's workers and guests open by path on the node. */
function grantedPaths({ prepared, stateDir, volumes = [] }: EngineClaim): GrantedPaths {
  const mounts = prepared.app.components.flatMap(({ files }) => files);
  const sources = (writable: boolean): readonly string[] =>
    mounts.flatMap((mount) => ((mount.writable ?? false) === writable ? [mount.source] : []));
  return {
    readable: sources(false),
    writable: [
      stateDir,
      ...sources(true),
      ...volumes.flatMap(({ source, writable }) => (writable ? [source] : [])),
    ],
  };
}

/** Without the right to filter the socket a connection that completes while it closes may be reset; no reason to stay. */
function closeDoor(listenFd: number): void {
  try {
    refuseNewConnections(listenFd);
  } catch (thrown) {
    if (ShimError.from(thrown).code !== 'permission-denied') throw thrown;
  }
}

/**
 * Moves this thread into the container's network namespace. Gives a descriptor of the namespace for threads that are
 * there already; undefined when nothing changed.
 */
function enterNetwork(network: NetworkTarget): number | undefined {
  switch (network.kind) {
    case 'host':
      return undefined;
    case 'new':
      newNetworkNamespace();
      return openSync('/proc/thread-self/ns/net', constants.O_RDONLY);
    case 'path': {
      const fd = openNamespace(network.path);
      enterNetworkNamespace(fd);
      return fd;
    }
    default:
      return network satisfies never;
  }
}

function openNamespace(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    throw new ShimError(
      'failed-precondition',
      `the network namespace "${path}" cannot be opened: ${String(error)}`,
      { cause: error },
    );
  }
}

/** Opens an output; FIFOs read-write so that neither a late nor a lost reader matters (reference/containerd.md 4). */
async function openOutput(output: EngineOutput): Promise<number | undefined> {
  switch (output.kind) {
    case 'null':
      return undefined;
    case 'fd':
      return output.fd;
    case 'fifo':
      return openSync(output.path, constants.O_RDWR | constants.O_NONBLOCK);
    case 'file':
      await mkdir(dirname(output.path), { recursive: true });
      return openSync(output.path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o644);
    default:
      return output satisfies never;
  }
}

function sameFile(left: EngineOutput, right: EngineOutput): boolean {
  return left.kind === 'file' && right.kind === 'file' && left.path === right.path;
}

/** A line of the engine's own in the app's standard error; a reader that takes nothing must not hold the engine up. */
function tell(stderr: number | undefined, line: string): void {
  if (stderr === undefined) return;
  try {
    writeSync(stderr, `${line}\n`);
  } catch {
    // Full or gone: the line is lost, which is all that can happen to it.
  }
}

/** What `load` hands over; of the shared memory the worker gets that. */
type LoadInput = Omit<WorkerInput, 'board' | 'permits'> & {
  readonly board: RequestBoard;
  readonly permits: PermitLedger;
};

/** Hands a worker its app, with descriptors of its own for the outputs. */
async function load(
  worker: Worker,
  { claim, components, stdout, stderr, networkFd, board, permits, quiet, worker: number }: LoadInput,
): Promise<Extract<WorkerReply, { type: 'loaded' }>> {
  withDuplicates([stdout, stderr], ([ownStdout, ownStderr]) => {
    const input: WorkerInput = {
      claim,
      components,
      stdout: ownStdout,
      stderr: ownStderr,
      networkFd,
      board: board.buffer,
      permits: permits.buffer,
      worker: number,
      quiet,
    };
    worker.postMessage({ type: 'load', input } satisfies WorkerRequest);
  });
  return reply(worker, 'loaded');
}

async function serve(worker: Worker, listenFd: number, address: string, announce: boolean): Promise<void> {
  withDuplicates([listenFd], ([fd]) => {
    if (fd !== undefined)
      worker.postMessage({ type: 'serve', fd, address, announce } satisfies WorkerRequest);
  });
  await reply(worker, 'serving');
}

/** Duplicates descriptors for somebody who owns them from then on; closes them when handing them over fails. */
function withDuplicates(
  fds: readonly (number | undefined)[],
  handOver: (duplicates: readonly (number | undefined)[]) => void,
): void {
  const duplicates: (number | undefined)[] = [];
  try {
    for (const fd of fds) duplicates.push(fd === undefined ? undefined : duplicateFd(fd));
    handOver(duplicates);
  } catch (error) {
    for (const fd of duplicates) if (fd !== undefined) closeSync(fd);
    throw error;
  }
}

/** The worker's next answer of a type; rejects with its reason, or when it dies first. */
function reply<T extends WorkerReply['type']>(
  worker: Worker,
  type: T,
): Promise<Extract<WorkerReply, { type: T }>> {
  return new Promise((resolve, reject) => {
    const onMessage = (message: WorkerReply): void => {
      if (message.type !== type && message.type !== 'failed') return;
      worker.off('message', onMessage);
      worker.off('exit', onExit);
      if (message.type === 'failed') reject(new ShimError(message.code, message.message));
      else resolve(message as Extract<WorkerReply, { type: T }>);
    };
    const onExit = (code: number): void =>
      reject(new ShimError('internal', `the worker thread ended with code ${code}`));
    worker.on('message', onMessage);
    worker.once('exit', onExit);
  });
}
