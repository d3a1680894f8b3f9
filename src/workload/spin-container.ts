import { chownSync, closeSync, constants, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  ClaimReport,
  ClaimVolume,
  EngineBirth,
  EngineExit,
  EngineProcess,
  NetworkTarget,
  RunningExec,
  VolumeGrant,
} from '../engine/engine-process.ts';
import { type PrepareSource, prepare } from '../engine/prepare.ts';
import type { PreparedApp } from '../engine/prepared-app.ts';
import { type ErrorCode, ShimError } from '../error.ts';
import { labelFile } from '../linux.ts';
import type { Logger } from '../telemetry/log.ts';
import { Phases } from '../telemetry/phases.ts';
import { filesAnnotation, unknownAnnotations } from './annotations.ts';
import type { AppMemo } from './app-memo.ts';
import { type Bundle, makeStateDirectory } from './bundle.ts';
import type { CgroupStats } from './cgroup-stats.ts';
import type { CodeLearningQueue } from './code-learning-queue.ts';
import { type ContainerFiles, findContainerFiles } from './container-files.ts';
import type { EnginePool } from './engine-pool.ts';
import { engineShare } from './engine-share.ts';
import { exposeFileGrants } from './file-grants.ts';
import type { HeldResources } from './held-resources.ts';
import { type HookState, runHooks } from './hooks.ts';
import type { ContainerImage, ImageOf } from './image-of.ts';
import { MappedVolumes } from './mapped-volumes.ts';
import { callFilterOf, securityOf } from './security-context.ts';
import { appArmorProfileOf, type Labels, labelsOf } from './security-modules.ts';
import type { SpecResources } from './spec.ts';
import type { TaskStdio } from './stdio.ts';
import type { TaskExit } from './task-state.ts';
import { grantVolumes, volumesOf } from './volumes.ts';
import type { ExecCommand, Workload } from './workload.ts';

/** What all Spin containers of a host share. */
export type SpinRuntime = {
  /** containerd's gRPC socket and the namespace in it. */
  readonly address: string;
  readonly namespace: string;
  /** Directory of blobs, prepared apps and transpiled components. */
  readonly storeDir: string;
  /** Bytes that prepared components may take in it; undefined = the preparer's own bound. */
  readonly maxCacheBytes?: number | undefined;
  readonly pool: EnginePool;
  readonly memo: AppMemo;
  /** Undefined where no code is kept. */
  readonly learning: CodeLearningQueue | undefined;
  readonly imageOf: ImageOf;
  /** Whether the image of the container of that id has Spin layers. */
  readonly isSpinImage: (id: string) => Promise<boolean>;
  readonly log: Logger;
};

/** What becomes of an engine that is refused a system call. */
const maybeRefused: ReadonlySet<ErrorCode> = new Set(['internal', 'permission-denied', 'unavailable']);

/** One Spin container. */
export type SpinContainerOptions = {
  readonly id: string;
  readonly bundle: Bundle;
  /** Has the root file system mounted already. */
  readonly held: HeldResources;
  readonly network: NetworkTarget;
  readonly stdio: TaskStdio;
  /** Gives up creating it. */
  readonly signal: AbortSignal;
};

/** What creating a container consists of; finding the app happens while the engine is put into its place. */
type CreatePhase = 'files' | 'prepare' | 'engine' | 'claim' | 'hooks';

/** What there is to run, and with what. */
type FoundApp = {
  readonly files: ContainerFiles;
  /** Directory of the container for files that an app is made of. */
  readonly filesDir: string;
  /** Directory of the container's own stores, at a place that its user can reach. */
  readonly stateDir: string;
  readonly stores: readonly ClaimVolume[];
  readonly prepared: PreparedApp;
};

/** Names the components that a container runs, comma-separated (spin.md 6.3). */
const retainVariable = 'SPIN_COMPONENTS_TO_RETAIN';

/** A Spin app as a workload: one engine process in the container's cgroup and the pod's network namespace. */
export class SpinContainer implements Workload {
  readonly exited: Promise<TaskExit>;
  readonly #runtime: SpinRuntime;
  readonly #options: SpinContainerOptions;
  readonly #held: HeldResources;
  readonly #mapped: MappedVolumes;
  #engine: EngineProcess | undefined;
  /** What it runs, and what its engine told of it. */
  #made: { readonly prepared: PreparedApp; readonly report: ClaimReport } | undefined;
  #resolveExited: (exit: EngineExit) => void = () => {};

  constructor(runtime: SpinRuntime, options: SpinContainerOptions) {
    this.#runtime = runtime;
    this.#options = options;
    this.#held = options.held;
    this.#mapped = new MappedVolumes(options.bundle.spec, (...volume) => this.#held.exposeMapped(...volume));
    this.exited = new Promise((resolve) => {
      this.#resolveExited = resolve;
    });
  }

  create(): Promise<number> {
    return this.#explained(() => this.#create()).catch((error: unknown) => {
      this.#runtime.pool.settled();
      throw error;
    });
  }

  start(): Promise<void> {
    return this.#explained(async () => {
      const engine = this.#live();
      await engine.start();
      this.#runtime.pool.settled();
      if (this.#made !== undefined) this.#runtime.learning?.note(this.#made.prepared, this.#made.report);
      await this.#lateHooks('poststart', 'running', engine.pid);
    });
  }

  /** An engine that the kernel killed for want of memory knows nothing of it, nor does one that was refused a system call. */
  async #explained<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      if (!(await this.#held.outOfMemory().catch(() => false))) throw this.#withProfiles(error);
      const limit = this.#options.bundle.spec.resources.memoryLimit;
      throw new ShimError(
        'resource-exhausted',
        `the container ran out of memory while it started, its limit is ${limit === undefined ? 'that of its pod' : `${limit} bytes`}: raise resources.limits.memory`,
        { cause: error },
      );
    }
  }

  /** Tells of the pod's profiles with an error that they may be behind. */
  #withProfiles(thrown: unknown): unknown {
    const { seccomp, appArmorProfile, selinuxLabel } = this.#options.bundle.spec;
    const profiles = [
      ...(seccomp.size === 0 ? [] : ['a seccomp profile']),
      ...(['', 'unconfined'].includes(appArmorProfile) ? [] : ['an AppArmor profile']),
      ...(selinuxLabel === '' ? [] : ['an SELinux label']),
    ];
    // An engine with a label boots with it already.
    if ((this.#engine === undefined && selinuxLabel === '') || profiles.length === 0) return thrown;
    const error = ShimError.from(thrown);
    if (!maybeRefused.has(error.code) && !/\b(EACCES|EPERM)\b/.test(error.message)) return thrown;
    return new ShimError(
      error.code,
      `${error.message}; the container has ${profiles.join(' and ')}: it may refuse what an engine needs`,
      { cause: thrown },
    );
  }

  async #create(): Promise<number> {
    const { id, bundle, network, stdio, signal } = this.#options;
    const { spec } = bundle;
    const phases = new Phases<CreatePhase>();
    const volumes = volumesOf(spec);
    const labels = labelsOf(spec);
    const place = placeOf(labels, network);
    const asked = { appArmorProfile: appArmorProfileOf(spec), filter: callFilterOf(spec) };
    // containerd answers while the container's own files are seen to.
    const image = this.#runtime.imageOf(id);
    image.catch(() => {});
    this.#held.makeCgroup();
    // The kernel takes some 20 ms for putting an engine into a cgroup: meanwhile it is found out what to run.
    const taking = this.#runtime.pool.take(async (pid) => {
      this.#held.listProcesses([pid]);
      await this.#held.placeProcesses([pid]);
    }, place.birth);
    // Its failure is told of below, where it is waited for.
    taking.catch(() => {});
    const found = await this.#findApp(phases, labels, image).catch(async (error: unknown) => {
      const unused = await taking.catch(() => undefined);
      unused?.signal('SIGKILL');
      throw error;
    });
    const { files, filesDir, stateDir, stores, prepared } = found;
    const engine = await taking;
    this.#engine = engine;
    void engine.exited.then(this.#resolveExited);
    phases.end('engine');
    const giveUp = (): void => engine.signal('SIGKILL');
    signal.addEventListener('abort', giveUp);
    try {
      if (spec.oomScoreAdj !== undefined)
        writeFileSync(`/proc/${engine.pid}/oom_score_adj`, String(spec.oomScoreAdj));
      for (const line of unknownAnnotations(spec)) stdio.writeReason(line);
      let grants: readonly VolumeGrant[] | undefined;
      const claim = async (whole: PreparedApp): Promise<ClaimReport> => {
        const { app, components } = whole;
        const granted = grantVolumes(app, bundle.rootfs, volumes, spec.annotations.get(filesAnnotation));
        // Once: what is exposed for the first claim serves the second.
        grants ??= await exposeFileGrants(
          granted.app,
          await Promise.all(granted.grants.map((grant) => this.#mappedGrant(grant))),
          (name, exposed) => this.#held.exposeFiles(name, exposed),
        );
        const { security, warnings } = securityOf(spec, grants.length + stores.length > 0);
        for (const warning of warnings) stdio.writeReason(warning);
        const report = await engine.claim({
          id,
          prepared: { app: granted.app, components },
          checked: this.#runtime.memo.checked.of(whole),
          network: place.network,
          environment: spec.env,
          args: spec.args,
          stdout: stdio.stdout,
          stderr: stdio.stderr,
          stateDir,
          ...engineShare(spec.resources),
          security: { ...security, ...asked },
          grants,
          volumes: stores,
          ...files,
        });
        this.#runtime.memo.checked.note(whole, report.checked);
        this.#made = { prepared: whole, report };
        return report;
      };
      const report = await claim(prepared).catch(async (error: unknown) => {
        // The engine trusts no entry that another could have written; it is made again, once.
        if (ShimError.from(error).code !== 'data-loss') throw error;
        this.#runtime.log.warn({ instance: id, err: error }, 'a prepared component is made again');
        return claim(await this.#prepare(filesDir, await image, 'anew'));
      });
      phases.end('claim');
      await this.#createHooks(engine.pid);
      phases.end('hooks');
      this.#runtime.log.debug(
        {
          instance: id,
          milliseconds: phases.ended,
          engine: report.milliseconds,
          components: report.components,
          landlock: report.landlock,
        },
        'Spin container created',
      );
    } finally {
      // From now on the caller's connection may close without the container having to end.
      signal.removeEventListener('abort', giveUp);
    }
    return engine.pid;
  }

  /** Everything that the engine needs of the node before it can be claimed, the limits of its cgroup among it. */
  async #findApp(
    phases: Phases<CreatePhase>,
    labels: Labels | undefined,
    image: Promise<ContainerImage | undefined>,
  ): Promise<FoundApp> {
    this.#held.limitCgroup();
    const { id, bundle, signal } = this.#options;
    const { uid, gid } = securityOf(bundle.spec, false).security;
    const ownStateDir = makeStateDirectory(bundle.path);
    chownSync(ownStateDir, uid, gid);
    const filesDir = join(ownStateDir, '..', 'files');
    mkdirSync(filesDir, { recursive: true, mode: 0o700 });
    if (labels?.files !== undefined) {
      for (const folder of [ownStateDir, filesDir]) labelFolder(folder, labels.files);
      this.#options.stdio.label(labels.files);
    }
    const files = findContainerFiles(bundle, filesDir);
    // Root may pass wherever root has closed a folder.
    const stateDir = uid === 0 ? ownStateDir : await this.#held.expose(ownStateDir, 'state');
    const stores =
      files.runtimeConfig === undefined ? [] : await this.#storeVolumes(volumesOf(bundle.spec), uid);
    phases.end('files');
    const prepared = await this.#prepare(filesDir, await image).catch((error: unknown) =>
      this.#explainImage(error),
    );
    phases.end('prepare');
    if (signal.aborted)
      throw new ShimError('unavailable', `creating task "${id}" was given up by its caller`);
    return { files, filesDir, stateDir, stores, prepared };
  }

  async #mappedGrant(grant: VolumeGrant): Promise<VolumeGrant> {
    return { ...grant, source: await this.#mapped.placeOf(grant.source) };
  }

  /** The volumes that a store may lie on, at places that the container's user can reach. */
  async #storeVolumes(volumes: readonly ClaimVolume[], uid: number): Promise<readonly ClaimVolume[]> {
    const folders: ClaimVolume[] = [];
    for (const [index, volume] of volumes.entries()) {
      const status = await stat(volume.source).catch(() => undefined);
      if (status?.isDirectory() !== true) continue;
      const mapped = await this.#mapped.placeOf(volume.source);
      const source =
        uid === 0 || !volume.writable || mapped !== volume.source
          ? mapped
          : await this.#held.expose(volume.source, `volume-${index}`);
      folders.push({ ...volume, source });
    }
    return folders;
  }

  async kill(signal: number, all: boolean): Promise<void> {
    const engine = this.#live();
    // A frozen process takes no signal, not even this one on version 1.
    if (signal === 9) await this.#held.cgroup.freeze(false).catch(() => {});
    if (all) await this.#held.cgroup.signal(signal);
    else engine.signal(signal);
  }

  watchMemory(tell: () => void): void {
    this.#held.watchMemory(tell);
  }

  outOfMemory(): Promise<boolean> {
    return this.#held.outOfMemoryUntold();
  }

  pids(): Promise<readonly number[]> {
    return this.#held.pids(this.#live().pid);
  }

  stats(): Promise<CgroupStats> {
    return this.#held.stats();
  }

  pause(): Promise<void> {
    return this.#held.cgroup.freeze(true);
  }

  resume(): Promise<void> {
    return this.#held.cgroup.freeze(false);
  }

  update(resources: SpecResources): Promise<void> {
    return this.#held.update(resources);
  }

  assertExec(): void {}

  /** A command of the engine's debug shell. Its pid is the engine's: that is the process it runs in. */
  exec({ id, process, terminal, stdio }: ExecCommand): RunningExec {
    const descriptors = stdio.openDescriptors();
    const { selinuxLabel, mountLabel } = this.#options.bundle.spec;
    if (selinuxLabel !== '' && mountLabel !== '') stdio.label(mountLabel);
    const { args, env: environment } = process;
    const streams = [...descriptors.keys()];
    return this.#live().exec({ id, args, environment, terminal, streams }, [...descriptors.values()]);
  }

  async delete(): Promise<void> {
    this.#engine?.signal('SIGKILL');
    await this.#held.free();
    await this.#engine?.exited;
    await this.#lateHooks('poststop', 'stopped', 0);
  }

  /** What others hang into the making of a container: nerdctl has its network made so. Throws the first failure. */
  async #createHooks(pid: number): Promise<void> {
    const { id, bundle } = this.#options;
    const { prestart, createRuntime, createContainer, startContainer } = bundle.spec.hooks;
    const inside = [...createContainer, ...startContainer].map(({ path }) => path);
    if (inside.length > 0) {
      this.#runtime.log.warn(
        { instance: id, hooks: inside },
        'hooks not run: a Spin container has no programs inside',
      );
    }
    await runHooks(prestart, 'prestart', this.#hookState('creating', pid));
    await runHooks(createRuntime, 'createRuntime', this.#hookState('creating', pid));
  }

  /** Hooks whose failure changes nothing any more. */
  async #lateHooks(kind: 'poststart' | 'poststop', status: HookState['status'], pid: number): Promise<void> {
    const { id, bundle } = this.#options;
    await runHooks(bundle.spec.hooks[kind], kind, this.#hookState(status, pid)).catch((error: unknown) => {
      this.#runtime.log.warn({ instance: id, err: error }, 'a hook failed');
    });
  }

  #hookState(status: HookState['status'], pid: number): HookState {
    const { id, bundle } = this.#options;
    return { id, status, pid, bundle: bundle.path, annotations: bundle.spec.annotations };
  }

  /** An image that is no Spin app may be meant as a Linux one whose command has a slip in it. */
  async #explainImage(error: unknown): Promise<never> {
    const reason = ShimError.from(error);
    const { id, bundle } = this.#options;
    const command = bundle.spec.args[0] ?? '';
    if (reason.code !== 'invalid-image') throw reason;
    if (await this.#runtime.isSpinImage(id).catch(() => true)) throw reason;
    throw new ShimError(
      'invalid-image',
      `${reason.message}; nor can it run as a Linux container, since its command "${command}" is no executable file in it`,
      { cause: reason },
    );
  }

  #live(): EngineProcess {
    if (this.#engine !== undefined) return this.#engine;
    throw new ShimError('failed-precondition', `task "${this.#options.id}" has no engine`);
  }

  async #prepare(filesDir: string, image: ContainerImage | undefined, anew?: 'anew'): Promise<PreparedApp> {
    const { address, namespace, storeDir, maxCacheBytes, memo, log } = this.#runtime;
    const { id, bundle } = this.#options;
    const retain = retainedComponents(bundle);
    const workDir = join(filesDir, 'app');
    const { rootfs } = bundle;
    const source: PrepareSource =
      image === undefined
        ? { kind: 'rootfs', rootfs }
        : { kind: 'containerd', address, namespace, image: image.name, rootfs };
    const run = async (): Promise<PreparedApp> => {
      await mkdir(workDir, { recursive: true, mode: 0o700 });
      const job = {
        source,
        storeDir,
        workDir,
        ...(retain === undefined ? {} : { retain }),
        ...(maxCacheBytes === undefined ? {} : { maxCacheBytes }),
      };
      return prepare(job, {
        signal: this.#options.signal,
        checked: memo.checked,
        warn: (line) => log.warn({ instance: id }, line),
      });
    };
    // Without a digest there is nothing to remember it by.
    if (image === undefined) return run();
    return memo.get({ digest: image.digest, rootfs }, retain, run, anew !== undefined);
  }
}

/** How a container's engine is born, and what is left of its way into the pod's network. */
function placeOf(
  labels: Labels | undefined,
  network: NetworkTarget,
): { readonly birth: EngineBirth | undefined; readonly network: NetworkTarget } {
  if (labels === undefined) return { birth: undefined, network };
  const networkPath = network.kind === 'path' ? network.path : undefined;
  const birth = { label: labels.process, networkPath };
  return { birth, network: networkPath === undefined ? network : { kind: 'host' } };
}

/** Gives a folder the label of SELinux; what is made in it later takes its type over. */
function labelFolder(path: string, label: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    labelFile(fd, label);
  } finally {
    closeSync(fd);
  }
}

/** The ids in SPIN_COMPONENTS_TO_RETAIN; undefined where it names none. */
function retainedComponents({ spec }: Bundle): readonly string[] | undefined {
  const value = spec.env.findLast(([name]) => name === retainVariable)?.[1] ?? '';
  const ids = value.split(',').flatMap((id) => (id.trim() === '' ? [] : [id.trim()]));
  return ids.length === 0 ? undefined : ids;
}
