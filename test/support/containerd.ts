import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeCgroup } from './cgroups.ts';
import { cniConfig, containerdConfig, containerdPaths, type RuntimeHandler } from './containerd-config.ts';
import { CriClient, type PodInput } from './cri.ts';
import { Ctr } from './ctr.ts';
import { rememberForwarding, restoreForwarding } from './forwarding.ts';
import { importImage, pauseImage } from './images.ts';
import { mountsUnder, unmountUnder } from './mounts.ts';
import { overlayWorks } from './overlay.ts';
import {
  endProcess,
  isAlive,
  isWriterAlive,
  killOwned,
  type Ownership,
  ownedProcesses,
  processTrees,
} from './processes.ts';
import { freeSubnet } from './subnet.ts';
import { waitFor } from './wait.ts';

/** Name under which the sandbox image is imported. */
const sandboxImage = 'spinshim.test/pause:1';
/** Where libcni keeps the results of live pods; it knows no option for it. */
const cniCache = '/var/lib/cni';
/** Where 1.6 and 1.7 runc shims put sockets; a constant of theirs. */
const shimSockets = '/run/containerd/s';
/** Bytes of containerd's log shown with a failure. */
const logTailBytes = 8_192;
/** Milliseconds for one CRI call during cleanup. */
const cleanupCallMs = 20_000;

export type ContainerdOptions = {
  /** containerd executable, default `containerd` on the PATH. */
  readonly binary?: string;
  /** Folder with `containerd-shim-spin-v2`, put first on containerd's PATH. */
  readonly shimDir?: string;
  /** Added to containerd's environment, which shims inherit. */
  readonly env?: Readonly<Record<string, string>>;
  /** TOML appended to the config. */
  readonly configExtra?: string;
  /** More handlers; one named like a default (`runc`, `spin-v2`) replaces it. */
  readonly runtimes?: readonly RuntimeHandler[];
  /** Plain HTTP registries, `HOST:PORT`. */
  readonly registries?: readonly string[];
  /** Log level debug; shims then get `-debug` too. */
  readonly debug?: boolean;
  /** Let plugins of the node resource interface in; from 1.7 on. */
  readonly nri?: boolean;
  /** Let ports of the node lead to pods. This makes firewall rules: only in a network namespace of the test's own. */
  readonly hostPorts?: boolean;
  /** Every container gets an SELinux label. */
  readonly selinux?: boolean;
};

/** What cleanup had to do by force; empty lists after an orderly end. */
export type CleanupReport = {
  readonly killed: readonly number[];
  readonly unmounted: readonly string[];
  /** Calls that failed while pods were taken down. */
  readonly failures: readonly string[];
};

/**
 * A real containerd with everything of its own: root, state, sockets, network, cgroup parent, shim directories. Needs
 * root, runc, and the CNI plugins in /usr/lib/cni. Whoever starts one calls `cleanup`.
 */
export class PrivateContainerd {
  /** Everything lives below this folder. */
  readonly folder: string;
  readonly root: string;
  readonly state: string;
  /** Path of the gRPC socket. */
  readonly address: string;
  /** `SPINSHIM_RUN_DIR` of its shims. */
  readonly runDir: string;
  /** `SPINSHIM_STATE_DIR` of its shims. */
  readonly shimStateDir: string;
  /** Unique per instance; every pod started through `runPod` is below it. */
  readonly cgroupParent: string;
  readonly snapshotter: 'overlayfs' | 'native';
  readonly logFile: string;
  /** Addresses of its pods, `a.b.c.d/20`; no other route of this machine lies in it. */
  readonly subnet = freeSubnet();
  readonly cri: CriClient;
  readonly #paths: ReturnType<typeof containerdPaths>;
  readonly #options: ContainerdOptions;
  readonly #network: string;
  #child: ChildProcess | undefined;

  private constructor(folder: string, snapshotter: 'overlayfs' | 'native', options: ContainerdOptions) {
    const name = folder.slice(folder.lastIndexOf('/') + 1);
    const paths = containerdPaths(folder);
    this.folder = folder;
    this.root = paths.root;
    this.state = paths.state;
    this.address = paths.address;
    this.runDir = paths.runDir;
    this.shimStateDir = paths.stateDir;
    this.logFile = paths.log;
    this.cgroupParent = `/${name}`;
    this.snapshotter = snapshotter;
    this.cri = new CriClient(paths.address);
    this.#paths = paths;
    this.#options = options;
    this.#network = name;
  }

  /** Starts containerd, waits until CRI answers and the network is ready, and puts the sandbox image in. */
  static async start(options: ContainerdOptions = {}): Promise<PrivateContainerd> {
    // Below /tmp whatever TMPDIR says: Unix socket paths must stay under 108 bytes.
    const folder = await mkdtemp('/tmp/spinshim-test-');
    // As `/run` and `/var/lib` are on a node: the users of containers pass.
    await chmod(folder, 0o711);
    const containerd = new PrivateContainerd(
      folder,
      (await overlayWorks(folder)) ? 'overlayfs' : 'native',
      options,
    );
    rememberForwarding(folder);
    try {
      await containerd.#writeConfig();
      await containerd.#launch();
      await importImage(containerd, await pauseImage(), sandboxImage);
      await waitFor('the sandbox image to be known to CRI', () => containerd.cri.imageStatus(sandboxImage));
    } catch (error) {
      const tail = containerd.logTail();
      await containerd.cleanup();
      throw new Error(`a private containerd did not start: ${String(error)}\n${tail}`, { cause: error });
    }
    return containerd;
  }

  /** Pid of containerd; `undefined` while it is stopped. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** The `ctr` command line of this containerd. */
  ctr(namespace = 'k8s.io'): Ctr {
    const { address, cgroupParent } = this;
    return new Ctr({ address, namespace, cgroupParent, fifoDir: this.#paths.fifoDir });
  }

  /** `cri.runPod` with this instance's cgroup parent and a log directory of the pod's own. */
  runPod(input: PodInput): Promise<string> {
    return this.cri.runPod({
      cgroupParent: this.cgroupParent,
      logDirectory: this.podLogDirectory(input.name, input.namespace),
      ...input,
    });
  }

  /** Log directory that `runPod` gives to a pod. */
  podLogDirectory(podName: string, namespace = 'default'): string {
    return join(this.#paths.podLogs, `${namespace}_${podName}`);
  }

  /** Text of a container's log in CRI's format (time, stream, F or P, line); empty when there is none yet. */
  containerLog(podName: string, container = 'main', { attempt = 0, namespace = 'default' } = {}): string {
    const file = join(this.podLogDirectory(podName, namespace), container, `${attempt}.log`);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  /** Lets CRI pull from a registry over plain HTTP; works while containerd runs. */
  async allowRegistry(host: string): Promise<void> {
    const folder = join(this.#paths.hosts, host);
    await mkdir(folder, { recursive: true });
    const text = `server = "http://${host}"\n[host."http://${host}"]\ncapabilities = ["pull", "resolve"]\n`;
    await writeFile(join(folder, 'hosts.toml'), text);
  }

  /** The end of containerd's own log. */
  logTail(bytes = logTailBytes): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile).subarray(-bytes).toString('utf8') : '';
  }

  /** Ends containerd itself with SIGTERM; shims, pods and folders stay. */
  async stop(): Promise<void> {
    if (this.#child === undefined) return;
    await endProcess(this.#child);
    this.#child = undefined;
  }

  /** Sends containerd a signal; for SIGKILL and SIGTERM returns when it is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined) throw new Error('containerd does not run');
    const gone = once(child, 'exit');
    child.kill(signal);
    if (signal !== 'SIGKILL' && signal !== 'SIGTERM') return;
    await gone;
    this.#child = undefined;
  }

  /** Stops containerd if it runs, starts it on the same folders and waits until CRI answers. */
  async restart(): Promise<void> {
    await this.stop();
    await this.#launch();
  }

  /** Pids written by shim hosts into the run directory, as far as the writers still live. */
  hostPids(): number[] {
    if (!existsSync(this.runDir)) return [];
    return readdirSync(this.runDir)
      .filter((name) => name.endsWith('.pid'))
      .map((name) => join(this.runDir, name))
      .filter((file) => isWriterAlive(file))
      .map((file) => Number(readFileSync(file, 'utf8')));
  }

  /** Pids of everything that runs for this instance: containerd, shim hosts and all their descendants. */
  processes(): number[] {
    const roots = [...this.hostPids(), ...(this.pid === undefined ? [] : [this.pid])];
    return ownedProcesses(this.#ownership, roots).map(({ pid }) => pid);
  }

  /**
   * Takes every pod down through CRI, stops containerd, and then removes by force what is left and proven to be this
   * instance's: processes, mounts, cgroups, CNI results, shim sockets, folders. Fails when something stays.
   */
  async cleanup(): Promise<CleanupReport> {
    const failures: string[] = [];
    if (this.#child !== undefined && this.#child.exitCode === null) await this.#removePods(failures);
    this.cri.close();
    const bundles = await this.#bundles();
    await this.stop();
    const hosts = this.hostPids();
    // Taken before the hosts end: their children keep no link to them afterwards.
    const owned = ownedProcesses(this.#ownership, hosts);
    const trees = processTrees(hosts);
    for (const pid of hosts) process.kill(pid, 'SIGTERM');
    if (hosts.length > 0) {
      const gone = () => !trees.some(isAlive);
      await waitFor('the shim hosts to end', gone).catch((error: unknown) => {
        failures.push(String(error));
      });
    }
    const killed = await killOwned(this.#ownership, owned);
    const unmounted = await unmountUnder(this.folder);
    await removeCgroup(this.cgroupParent);
    for (const { id, socket } of bundles) {
      if (socket?.startsWith(`${shimSockets}/`)) await rm(socket, { force: true });
      for (const namespace of ['k8s.io', 'default']) {
        await rm(join('/run/containerd/runc', namespace, id), { recursive: true, force: true });
      }
    }
    await this.#removeCniResults();
    const left = mountsUnder(this.folder);
    if (left.length > 0) throw new Error(`mounts stay below "${this.folder}": ${left.join(', ')}`);
    restoreForwarding(this.folder);
    await rm(this.folder, { recursive: true, force: true });
    return { killed, unmounted, failures };
  }

  get #ownership(): Ownership {
    return { environmentEntry: `SPINSHIM_TEST_INSTANCE=${this.folder}`, cgroupParent: this.cgroupParent };
  }

  async #writeConfig(): Promise<void> {
    const paths = this.#paths;
    const options = this.#options;
    for (const folder of [paths.cniConf, paths.hosts, paths.runDir, paths.stateDir, paths.podLogs]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
    }
    for (const host of options.registries ?? []) await this.allowRegistry(host);
    const network = cniConfig(this.#network, this.subnet, paths.cniData, options.hostPorts);
    await writeFile(join(paths.cniConf, '10-test.conflist'), network);
    const config = containerdConfig({
      folder: this.folder,
      snapshotter: this.snapshotter,
      sandboxImage,
      runtimes: this.#handlers(),
      debug: options.debug ?? false,
      nri: options.nri ?? false,
      selinux: options.selinux ?? false,
      extra: options.configExtra ?? '',
    });
    await writeFile(paths.config, config);
  }

  #handlers(): RuntimeHandler[] {
    const annotations = ['spin.shim/*'];
    const handlers = new Map<string, RuntimeHandler>();
    const defaults: RuntimeHandler[] = [
      {
        name: 'runc',
        type: 'io.containerd.runc.v2',
        options: [`Root = ${JSON.stringify(this.#paths.runcRoot)}`],
      },
      {
        name: 'spin-v2',
        type: 'io.containerd.spin.v2',
        podAnnotations: annotations,
        containerAnnotations: annotations,
      },
    ];
    for (const handler of [...defaults, ...(this.#options.runtimes ?? [])])
      handlers.set(handler.name, handler);
    return [...handlers.values()];
  }

  async #launch(): Promise<void> {
    const { binary = 'containerd', shimDir, env } = this.#options;
    const path = `${process.env.PATH ?? ''}:/usr/sbin:/usr/bin:/sbin:/bin`;
    const log = openSync(this.logFile, 'a');
    const child = spawn(binary, ['--config', this.#paths.config], {
      cwd: this.folder,
      // A Ctrl-C in the terminal is for the tests, which then end containerd in order.
      detached: true,
      stdio: ['ignore', log, log],
      env: {
        PATH: shimDir === undefined ? path : `${shimDir}:${path}`,
        SPINSHIM_TEST_INSTANCE: this.folder,
        SPINSHIM_RUN_DIR: this.runDir,
        SPINSHIM_STATE_DIR: this.shimStateDir,
        // It would come between tests that count processes.
        SPINSHIM_LEARN_CODE: 'false',
        ...env,
      },
    });
    closeSync(log);
    let ended: string | undefined;
    child.on('error', (error) => {
      ended = String(error);
    });
    child.on('exit', (code, signal) => {
      ended = `exit ${code ?? signal}`;
    });
    this.#child = child;
    const ready = await waitFor(
      'containerd to answer',
      async () => {
        if (ended !== undefined) return 'ended';
        const conditions = await this.cri.conditions({ deadlineMs: 300 });
        return conditions.get('RuntimeReady') === true && conditions.get('NetworkReady') === true && 'ready';
      },
      { timeoutMs: 30_000, explain: () => this.logTail() },
    );
    if (ready === 'ended') throw new Error(`containerd ended at once (${ended})\n${this.logTail()}`);
  }

  async #removePods(failures: string[]): Promise<void> {
    const note = (error: unknown) => {
      failures.push(String(error));
    };
    const pods = await this.cri.listPods({ deadlineMs: cleanupCallMs }).catch((error: unknown) => {
      note(error);
      return [];
    });
    const remove = async (id: string) => {
      await this.cri.stopPod(id, { deadlineMs: cleanupCallMs }).catch(note);
      await this.cri.removePod(id, { deadlineMs: cleanupCallMs }).catch(note);
    };
    const queue = pods.map((pod) => pod.id);
    const next = async (): Promise<void> => {
      for (let id = queue.pop(); id !== undefined; id = queue.pop()) await remove(id);
    };
    await Promise.all([next(), next(), next(), next()]);
  }

  /** Ids and shim sockets of the bundles that still exist. */
  async #bundles(): Promise<{ id: string; socket: string | undefined }[]> {
    const top = join(this.state, 'io.containerd.runtime.v2.task');
    if (!existsSync(top)) return [];
    const bundles: { id: string; socket: string | undefined }[] = [];
    for (const namespace of await readdir(top)) {
      for (const id of await readdir(join(top, namespace))) {
        const file = join(top, namespace, id, 'address');
        const address = existsSync(file) ? readFileSync(file, 'utf8') : undefined;
        bundles.push({ id, socket: address?.replace(/^unix:\/\//, '').trim() });
      }
    }
    return bundles;
  }

  /** libcni's result files begin with the network's name, which is this instance's alone. */
  async #removeCniResults(): Promise<void> {
    for (const folder of [join(cniCache, 'results'), join(cniCache, 'cache', 'results')]) {
      if (!existsSync(folder) || !(await stat(folder)).isDirectory()) continue;
      for (const name of await readdir(folder)) {
        if (name.startsWith(`${this.#network}-`)) await rm(join(folder, name));
      }
    }
  }
}
