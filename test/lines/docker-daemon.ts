import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { connect as connectTo, createServer } from 'node:net';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { PrivateContainerd } from '../support/containerd.ts';
import { endProcess } from '../support/processes.ts';
import { relay } from '../support/relay.ts';
import { waitFor } from '../support/wait.ts';

const execute = promisify(execFile);
const commandTimeoutMs = 60_000;
/** Bytes of dockerd's log shown with a failure. */
const logTailBytes = 6_000;
/** Port of the registry as dockerd sees it; the network namespace is empty but for it. */
const registryPort = 5000;

export type DockerOptions = {
  /** Absolute paths of the daemon and its client. */
  readonly dockerd: string;
  readonly docker: string;
  /** Folder of `docker-proxy`, which serves published ports. */
  readonly proxyFolder: string;
  /** Added to `daemon.json`. */
  readonly settings: Readonly<Record<string, unknown>>;
};

type Output = { readonly stdout: string; readonly stderr: string };

/**
 * A real Docker daemon on a private containerd. It has a network namespace of its own, in which its bridge and published
 * ports live, so that nothing of the machine's network changes; folders, socket and cgroups are those of the containerd.
 */
export class PrivateDocker {
  /** Where `registry` of the machine answers in dockerd's network namespace. */
  readonly registryHost = `127.0.0.1:${registryPort}`;
  readonly #containerd: PrivateContainerd;
  readonly #options: DockerOptions;
  readonly #network: string;
  readonly #folder: string;
  readonly #address: string;
  readonly #log: string;
  readonly #helpers: ChildProcess[] = [];
  #child: ChildProcess | undefined;

  private constructor(containerd: PrivateContainerd, options: DockerOptions) {
    this.#containerd = containerd;
    this.#options = options;
    this.#network = basename(containerd.folder);
    this.#folder = join(containerd.folder, 'docker');
    this.#address = join(containerd.folder, 'docker.sock');
    this.#log = join(containerd.folder, 'dockerd.log');
  }

  /** Starts dockerd and waits until it answers; `stop` has to be called. Rejects with the end of its log. */
  static async start(containerd: PrivateContainerd, options: DockerOptions): Promise<PrivateDocker> {
    const docker = new PrivateDocker(containerd, options);
    await mkdir(docker.#folder, { recursive: true });
    await execute('ip', ['netns', 'add', docker.#network]);
    try {
      await execute('ip', ['-n', docker.#network, 'link', 'set', 'lo', 'up']);
      await writeFile(join(docker.#folder, 'daemon.json'), JSON.stringify(docker.#settings()));
      await docker.#launch();
    } catch (error) {
      await docker.stop();
      throw error;
    }
    return docker;
  }

  /** Runs `docker ARGS`; rejects with what it printed unless it exits with 0. */
  run(...args: readonly string[]): Promise<Output> {
    return execute(this.#options.docker, [...args], {
      timeout: commandTimeoutMs,
      env: this.environment,
    });
  }

  /** Standard output of `docker ARGS` without the white space around it. */
  async ask(...args: readonly string[]): Promise<string> {
    return (await this.run(...args)).stdout.trim();
  }

  /** What a `docker` that is started by other means needs in its environment. */
  get environment(): Record<string, string> {
    return {
      PATH: process.env.PATH ?? '/usr/bin:/bin',
      HOME: this.#folder,
      DOCKER_HOST: `unix://${this.#address}`,
      // BuildKit is a plugin of the client that is not there.
      DOCKER_BUILDKIT: '0',
    };
  }

  /** Path of the client. */
  get client(): string {
    return this.#options.docker;
  }

  /** GET from inside dockerd's network namespace: status and body; rejects with what `fetch` said. */
  get(url: string): Promise<string> {
    return this.open(url).whole;
  }

  /** Like `get`, and tells when the first of the body has come. */
  open(url: string): { readonly begun: Promise<unknown>; readonly whole: Promise<string> } {
    const script = `const answer = await fetch(${JSON.stringify(url)}, { signal: AbortSignal.timeout(20_000) });
      const text = [String(answer.status), ' '];
      const decoder = new TextDecoder();
      for await (const chunk of answer.body) {
        text.push(decoder.decode(chunk, { stream: true }));
        process.stdout.write(text.splice(0).join(''));
      }
      process.stdout.write(text.join(''));`;
    const command = [process.execPath, '--input-type=module', '-e', script];
    const child = this.#spawnInNetwork(command, ['ignore', 'pipe', 'pipe']);
    let [output, complaints] = ['', ''];
    const begun = new Promise((resolve) => child.stdout?.once('data', resolve));
    child.stdout?.on('data', (chunk: Buffer) => (output += String(chunk)));
    child.stderr?.on('data', (chunk: Buffer) => (complaints += String(chunk)));
    const whole = once(child, 'close').then(([code]) => {
      if (code !== 0) throw new Error(`GET ${url}: ${complaints}`);
      return output;
    });
    return { begun, whole };
  }

  /** Asks `count` times for a path of a host's port 80 and reads nothing of the answers until the given process ends. */
  askUnread(host: string, path: string, count: number): ChildProcess {
    const script = `const { connect } = require('node:net');
      for (let i = 0; i < ${count}; i++)
        connect(80, ${JSON.stringify(host)}).on('error', () => {}).write('GET ${path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n');
      setInterval(() => {}, 1000);`;
    return this.#spawnInNetwork([process.execPath, '-e', script], ['ignore', 'ignore', 'inherit']);
  }

  /** Makes a registry of the machine's loopback reachable as `registryHost`. */
  async reachRegistry(host: string): Promise<void> {
    const [name = '', port] = host.split(':');
    const path = join(this.#containerd.folder, 'registry.sock');
    const server = createServer((socket) => {
      relay(socket, connectTo(Number(port), name));
    });
    server.listen(path);
    await once(server, 'listening');
    server.unref();
    const script = `const { createServer, connect } = require('node:net');
      createServer((socket) => {
        const other = connect(${JSON.stringify(path)});
        for (const [from, to] of [[socket, other], [other, socket]]) { from.on('error', () => to.destroy()); from.pipe(to); }
      }).listen(${registryPort}, '127.0.0.1', () => console.log('listening'));`;
    const helper = this.#spawnInNetwork([process.execPath, '-e', script], ['ignore', 'pipe', 'inherit']);
    this.#helpers.push(helper);
    if (helper.stdout !== null) await once(helper.stdout, 'data');
  }

  /** The end of dockerd's log. */
  logTail(bytes = logTailBytes): string {
    return existsSync(this.#log) ? readFileSync(this.#log).subarray(-bytes).toString('utf8') : '';
  }

  /** Ends dockerd by a signal, leaves containers be, and starts it again. */
  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined) throw new Error('dockerd does not run');
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
    await this.#launch();
  }

  /** Ends dockerd and takes its network namespace away; folders go with the containerd. */
  async stop(): Promise<void> {
    if (this.#child !== undefined) await endProcess(this.#child);
    for (const helper of this.#helpers) await endProcess(helper);
    await execute('ip', ['netns', 'delete', this.#network]);
    await rm(this.#address, { force: true });
  }

  #settings(): object {
    const { folder, address, cgroupParent, subnet } = this.#containerd;
    const [bridge = ''] = subnet.split('/');
    return {
      'data-root': join(this.#folder, 'data'),
      'exec-root': join(this.#folder, 'exec'),
      pidfile: join(this.#folder, 'docker.pid'),
      hosts: [`unix://${this.#address}`],
      containerd: address,
      // Processes of a container are found by it when the test cleans up after a failure.
      'cgroup-parent': cgroupParent,
      'exec-opts': ['native.cgroupdriver=cgroupfs'],
      iptables: false,
      ip6tables: false,
      'ip-forward': false,
      bip: `${bridge.replace(/0$/, '1')}/24`,
      'userland-proxy-path': join(this.#options.proxyFolder, 'docker-proxy'),
      'live-restore': true,
      'shutdown-timeout': 10,
      group: String(process.getgid?.() ?? 0),
      'log-level': 'info',
      labels: [`folder=${folder}`],
      ...this.#options.settings,
    };
  }

  async #launch(): Promise<void> {
    const log = openSync(this.#log, 'a');
    const child = this.#spawnInNetwork(
      [this.#options.dockerd, '--config-file', join(this.#folder, 'daemon.json')],
      ['ignore', log, log],
    );
    closeSync(log);
    this.#child = child;
    await waitFor(
      'dockerd to answer',
      async () => {
        if (child.exitCode !== null) return true;
        return (await this.run('version', '--format', '{{.Server.Version}}')).stdout.length > 0;
      },
      { timeoutMs: 30_000, intervalMs: 100, explain: () => this.logTail() },
    );
    if (child.exitCode !== null) throw new Error(`dockerd ended at once\n${this.logTail()}`);
  }

  #spawnInNetwork(
    command: readonly string[],
    stdio: ('ignore' | 'pipe' | 'inherit' | number)[],
  ): ChildProcess {
    return spawn('nsenter', [`--net=/run/netns/${this.#network}`, '--', ...command], {
      cwd: this.#folder,
      detached: true,
      stdio,
      env: {
        PATH: `${this.#options.proxyFolder}:${process.env.PATH ?? ''}:/usr/sbin:/usr/bin:/sbin:/bin`,
        SPINSHIM_TEST_INSTANCE: this.#containerd.folder,
      },
    });
  }
}
