import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import {
  enterNetworkNamespace,
  type ListenAddress,
  listenTcp,
  newNetworkNamespace,
  refuseNewConnections,
} from '../linux.ts';
import { Phases } from '../telemetry/phases.ts';
import { type AppLimits, formatDuration, limitSettings, readAppLimits } from './app-limits.ts';
import { rehearseClaim } from './claim-rehearsal.ts';
import { beginLearning, exercise, learnedCode } from './code-learning.ts';
import { CompiledCode } from './compiled-code.ts';
import { Confinement, type GrantedPaths } from './confinement.ts';
import { type CompiledComponent, CoreModules } from './core-modules.ts';
import type { FirstWorker } from './first-worker.ts';
import { post, reply } from './guest-worker.ts';
import { holdFiles } from './held-files.ts';
import { instanceMemoryLimit, limitInstanceMemory } from './instance-memory.ts';
import { compileImportWrappers } from './linker/import-wrappers.ts';
import { formatAddress, listenAddressOf, parseListenAddress } from './listen-address.ts';
import type {
  ClaimPhase,
  EngineClaim,
  EngineOutput,
  EngineReply,
  EngineRequest,
  EngineSecurity,
  NetworkTarget,
} from './messages.ts';
import { ParentChannel } from './parent-channel.ts';
import { ownPrograms } from './program.ts';
import { ShellFront } from './shell-front.ts';
import { WorkerCrew } from './worker-crew.ts';

/** Shortly before Kubernetes' default grace period of 30 s is over, milliseconds. */
const defaultDrainNoticeMs = 25_000;

/** Worker threads of an app at most, whatever its CPU quota. */
const maxWorkersByQuota = 8;

/** What a claimed engine holds. */
type Claimed = {
  readonly claim: EngineClaim;
  readonly crew: WorkerCrew;
  readonly components: readonly CompiledComponent[];
  readonly limits: AppLimits;
  readonly stderr: number | undefined;
  /** Where it wants to listen. */
  readonly listen: ListenAddress;
  listenFd: number | undefined;
};

/**
 * The engine's main thread. It boots with a worker that has its code loaded and waits; claimed, both enter the pod's
 * network namespace and the worker loads the app. A worker that dies is replaced. No guest code runs here.
 */
export class EngineServer {
  readonly #first: FirstWorker;
  #parent: ParentChannel | undefined;
  #workerReady: Promise<void> = Promise.resolve();
  /** The first worker, from the boot to the claim. */
  #spare: Worker | undefined;
  /** From the claim on, also of one that fails. */
  #crew: WorkerCrew | undefined;
  #claimed: Claimed | undefined;
  readonly #confinement = new Confinement();
  readonly #compiledCode = new CompiledCode();
  #ending = false;
  #claiming = false;
  /** Kept so that V8 does. */
  #importWrappers: WebAssembly.Instance | undefined;
  /** Whether the first worker knows the way of a request. */
  #rehearsed = false;
  readonly #shell = new ShellFront(
    () => {
      const claimed = this.#claimed;
      if (claimed === undefined) return undefined;
      const { claim, crew, listen } = claimed;
      return { claim, address: crew.address ?? formatAddress(listen), workers: () => crew.workers };
    },
    (exited) => this.#reply(exited),
  );

  constructor(first: FirstWorker) {
    this.#first = first;
    this.#spare = first.worker;
  }

  /** Takes the process over: messages, signals, end. */
  run(): void {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => this.#drain());
    const { worker, exited } = this.#first;
    void exited.then((reason) => {
      if (this.#spare === worker) fail(`the waiting worker failed: ${reason}`);
      this.#crew?.onExit(worker, reason);
    });
    this.#workerReady = reply(worker, 'ready').then(
      () => undefined,
      (thrown: unknown) => fail(`the worker could not be started: ${ShimError.from(thrown).message}`),
    );
    this.#parent = new ParentChannel(
      (request) => this.#onRequest(request),
      () => process.exit(0),
    );
    // Before the worker is: an app can be read and compiled while that still boots.
    this.#reply({ type: 'ready' });
  }

  #reply(reply: EngineReply): void {
    this.#parent?.send(reply);
  }

  #onRequest(request: EngineRequest): void {
    if (request.type === 'rehearse') {
      void this.#rehearse().then(() => this.#reply({ type: 'rehearsed' }));
      return;
    }
    if (request.type !== 'claim' && request.type !== 'start' && request.type !== 'learn') {
      this.#shell.handle(request);
      return;
    }
    this.#answer(request).then(
      (reply) => this.#reply(reply),
      (thrown: unknown) => {
        const { code, message } = ShimError.from(thrown);
        this.#reply({ type: 'failed', code, message });
      },
    );
  }

  #answer(request: Extract<EngineRequest, { type: 'claim' | 'start' | 'learn' }>): Promise<EngineReply> {
    switch (request.type) {
      case 'claim':
        return this.#claim(request.claim);
      case 'start':
        return this.#start();
      case 'learn':
        return this.#learn(request.paths);
      default:
        return request satisfies never;
    }
  }

  /** A rehearsal that fails costs the container that comes some milliseconds, no more. */
  async #rehearse(): Promise<void> {
    const worker = this.#spare;
    if (worker === undefined) return;
    this.#rehearsed = true;
    this.#importWrappers ??= compileImportWrappers();
    post(worker, { type: 'rehearse' });
    // A worker that ends meanwhile is told of where it ends.
    const rehearsed = reply(worker, 'rehearsed').catch(() => ({ problem: undefined }));
    const own = await rehearseClaim(this.#confinement, () => this.#claiming).then(
      () => undefined,
      (thrown: unknown) => ShimError.from(thrown).message,
    );
    const problem = (await rehearsed).problem ?? own;
    if (!this.#claiming) ownPrograms()?.keep();
    // One that a claim has overtaken may have met the container's rights.
    if (problem !== undefined && this.#spare === worker)
      process.stderr.write(`the rehearsal failed: ${problem}\n`);
  }

  async #claim(claim: EngineClaim): Promise<EngineReply> {
    const worker = this.#spare;
    if (worker === undefined)
      throw new ShimError('failed-precondition', 'this engine already belongs to a container');
    this.#claiming = true;
    const phases = new Phases<ClaimPhase>();
    const listen = listenAddressOf(claim);
    const limits = readAppLimits(claim.environment);
    const memory = instanceMemoryLimit(claim.environment, claim.memoryLimit);
    // First, so that an engine whose app has to be prepared again can be claimed again.
    const compiledCode = claim.learns === true ? undefined : this.#compiledCode;
    const core = CoreModules.open(claim.prepared, { checked: claim.checked, compiledCode });
    phases.end('read');
    // It would do nothing while this thread makes the modules.
    if (core.areLarge && !this.#rehearsed) post(worker, { type: 'warm-up' });
    for (const { digest, text } of core.plans) post(worker, { type: 'plan', digest, text });
    if (claim.learns === true) beginLearning();
    await core.compile();
    phases.end('compile');
    this.#spare = undefined;
    // This thread has nothing else to do until the worker is there.
    this.#importWrappers ??= compileImportWrappers();
    // It has all of its code then, whatever may be opened from here on.
    await this.#workerReady;
    phases.end('thread');
    const networkFd = enterNetwork(claim.network);
    phases.end('network');
    const stdout = openOutput(claim.stdout);
    const stderr = sameFile(claim.stdout, claim.stderr) ? stdout : openOutput(claim.stderr);
    const confined =
      claim.security === undefined ? undefined : this.#confine(claim, claim.security, networkFd, listen.port);
    phases.end('confine');
    const components = await core.complete();
    phases.end('compile');
    // Not before: kept code is that of modules without a limit, and V8 takes none that was made with other flags.
    if (memory !== undefined) limitInstanceMemory(memory.pages);
    // From here on files are opened by the descriptors that are held of them.
    const held = confined?.claim ?? claim;
    const crew = new WorkerCrew(
      {
        claim: held,
        components,
        stdout,
        stderr,
        limits,
        size: workerCount(claim, limits),
        pagemapFd: this.#first.pagemapFd,
      },
      { tell: (line) => tell(stderr, line), fail },
    );
    this.#crew = crew;
    const { milliseconds } = await crew.begin(worker, confined === undefined ? networkFd : undefined);
    phases.end('worker');
    if (networkFd !== undefined) closeSync(networkFd);
    this.#claimed = { claim: held, crew, components, limits, stderr, listen, listenFd: undefined };
    return {
      type: 'claimed',
      report: {
        checked: core.checked,
        milliseconds: { ...phases.ended, ...milliseconds },
        components: components.map(({ id, entry, hasCode }) => ({ id, form: entry.form, hasCode })),
        ...(confined === undefined ? {} : { landlock: confined.landlock }),
      },
    };
  }

  /** The last step before guest code: every thread into the pod's network, then away with every right of ours. */
  #confine(
    claim: EngineClaim,
    security: EngineSecurity,
    networkFd: number | undefined,
    port: number,
  ): { readonly claim: EngineClaim; readonly landlock: number } {
    const held = holdFiles(claim);
    this.#confinement.apply(security, grantedPaths(held), port, { networkFd });
    return { claim: held, landlock: this.#confinement.landlock };
  }

  async #start(): Promise<EngineReply> {
    const claimed = this.#claimed;
    if (claimed === undefined)
      throw new ShimError('failed-precondition', 'the engine has to be claimed before it is started');
    const { fd, port } = listenTcp(claimed.listen);
    claimed.listenFd = fd;
    this.#confinement.dropListening();
    const address = formatAddress({ host: claimed.listen.host, port });
    await claimed.crew.serve(fd, address, claimed.claim.announce ?? true);
    return { type: 'started', addresses: [address] };
  }

  async #learn(paths: readonly string[]): Promise<EngineReply> {
    const claimed = this.#claimed;
    const address = claimed?.crew.address;
    if (claimed === undefined || address === undefined)
      throw new ShimError('failed-precondition', 'the engine has to be started before it learns');
    await exercise(parseListenAddress(address, 'the listen address').port, paths);
    return { type: 'learned', code: await learnedCode(claimed.components, this.#compiledCode) };
  }

  /**
   * Ends with 0 after requests in flight; a second signal changes nothing. How long the grace period is nobody tells a
   * runtime: who has sent SIGTERM sends SIGKILL when it is over.
   */
  #drain(): void {
    if (this.#ending) return;
    this.#ending = true;
    ownPrograms()?.keep();
    const claimed = this.#claimed;
    if (claimed === undefined) process.exit(0);
    this.#mindDrain(claimed);
    if (claimed.listenFd !== undefined) {
      closeDoor(claimed.listenFd);
      closeSync(claimed.listenFd);
    }
    void claimed.crew.drain().finally(() => process.exit(0));
  }

  /** Ends the wait for requests where the app has set a limit to it; else tells of those that it waits for. */
  #mindDrain({ claim, crew, limits: { drainTimeoutMs }, stderr }: Claimed): void {
    const noticeMs = claim.drainNoticeMs ?? defaultDrainNoticeMs;
    if (drainTimeoutMs === 0) {
      setTimeout(() => {
        const after = formatDuration(noticeMs);
        const line = `requests go on ${after} after SIGTERM, until they end or the container is killed`;
        tell(stderr, `${line}${crew.requests}`);
      }, noticeMs).unref();
      return;
    }
    setTimeout(() => {
      const limit = `${formatDuration(drainTimeoutMs)} of SIGTERM (${limitSettings.drainTimeoutMs.name})`;
      tell(stderr, `requests did not finish within ${limit} and are cut off${crew.requests}`);
      process.exit(0);
    }, drainTimeoutMs).unref();
  }
}

/**
 * Threads for the CPU that the container may use, rounded up; one where no quota is set: each takes 7 MB and more, and
 * one that waits serves any number of requests. Bounded by the node's cores and by the instances that there may be.
 */
function workerCount({ cpus = 1 }: EngineClaim, { maxInstances, workers }: AppLimits): number {
  const byQuota = Math.min(Math.ceil(cpus), maxWorkersByQuota, availableParallelism());
  return Math.max(1, Math.min(workers ?? byQuota, maxInstances));
}

/** Ends the engine, and tells its parent why. */
function fail(reason: string): never {
  process.stderr.write(`${reason}\n`);
  process.exit(1);
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

/** Where a seccomp profile forbids it a connection that completes while the socket closes may be reset; no reason to stay. */
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
function openOutput(output: EngineOutput): number | undefined {
  switch (output.kind) {
    case 'null':
      return undefined;
    case 'fd':
      return output.fd;
    case 'fifo':
      return openSync(output.path, constants.O_RDWR | constants.O_NONBLOCK);
    case 'file':
      mkdirSync(dirname(output.path), { recursive: true });
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
