import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { endProcess } from '../support/processes.ts';
import { timeScale, waitFor } from '../support/wait.ts';

const execute = promisify(execFile);

/** Folder of the checkout in the machine where the programs of a cluster are. */
export const toolsFolder = 'tools';

/** Programs of a cluster. */
export const clusterTools = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kubectl',
] as const;
export type ClusterTool = (typeof clusterTools)[number];

export const nodeName = 'node';
/** An address that is no loopback one: kubelet wants such a one, and the API server one to advertise. */
const nodeAddress = '192.168.77.1';
const token = 'spinshim-test';
const etcdUrl = 'http://127.0.0.1:2379';
const apiUrl = 'https://127.0.0.1:6443';
/** Milliseconds of one `kubectl` on a machine of ordinary speed. */
const commandTimeoutMs = 30_000;
/** How often a `kubectl` may begin to talk to the server. */
const handshakes = 5;
/** Bytes of each log shown with a failure. */
const logTailBytes = 3_000;

/** kubelet first, the store last. */
const stopOrder: readonly ClusterTool[] = [
  ...(['kubelet', 'kube-scheduler', 'kube-controller-manager'] as const),
  ...(['kube-apiserver', 'etcd'] as const),
];

type Output = { readonly stdout: string; readonly stderr: string };

/**
 * An API server with its store and a kubelet that registers there: a cluster of one node, with scheduler and controllers only
 * where they are asked for. kubelet changes sysctls and cgroups of the machine it runs on, so this is for the virtual machine alone.
 */
export class Cluster {
  readonly #tools: string;
  readonly #folder: string;
  readonly #runtimeAddress: string;
  readonly #children = new Map<ClusterTool, ChildProcess>();

  private constructor(tools: string, folder: string, runtimeAddress: string) {
    this.#tools = tools;
    this.#folder = folder;
    this.#runtimeAddress = runtimeAddress;
  }

  /** Starts everything and waits until the node is ready. `tools`: folder of the programs; `runtimeAddress`: containerd's socket. */
  static async start(
    tools: string,
    runtimeAddress: string,
    { schedules = false }: { readonly schedules?: boolean } = {},
  ): Promise<Cluster> {
    const cluster = new Cluster(tools, await mkdtemp('/tmp/cluster-'), runtimeAddress);
    try {
      await execute('ip', ['link', 'add', 'node0', 'type', 'dummy']);
      await execute('ip', ['address', 'add', `${nodeAddress}/24`, 'dev', 'node0']);
      await execute('ip', ['link', 'set', 'node0', 'up']);
      await cluster.startControlPlane();
      if (schedules) cluster.#startControllers();
      await cluster.startKubelet();
      await waitFor('the node to be ready', () => cluster.isNodeReady(), cluster.#patience());
    } catch (error) {
      const tails = cluster.logTails();
      await cluster.stop();
      throw new Error(`the cluster did not start: ${String(error)}\n${tails}`, { cause: error });
    }
    return cluster;
  }

  /** etcd and the API server. */
  async startControlPlane(): Promise<void> {
    await this.#writeFiles();
    const folder = this.#folder;
    this.#spawn('etcd', [
      ...['--data-dir', join(folder, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
      ...['--listen-client-urls', etcdUrl, '--advertise-client-urls', etcdUrl],
    ]);
    this.#spawn('kube-apiserver', [
      ...['--etcd-servers', etcdUrl, '--cert-dir', join(folder, 'certificates')],
      ...['--bind-address', '127.0.0.1', '--secure-port', '6443', '--advertise-address', nodeAddress],
      ...['--token-auth-file', join(folder, 'tokens.csv'), '--authorization-mode', 'AlwaysAllow'],
      ...['--service-cluster-ip-range', '10.96.0.0/24', '--kubelet-preferred-address-types', 'InternalIP'],
      ...['--service-account-issuer', 'https://kubernetes.default.svc'],
      ...['--service-account-signing-key-file', join(folder, 'account.key')],
      ...['--service-account-key-file', join(folder, 'account.pub')],
      // No controller makes the accounts that it would ask for.
      ...['--disable-admission-plugins', 'ServiceAccount'],
    ]);
    await waitFor('the API server', () => this.#isServing(), this.#patience());
  }

  /** What makes pods of Deployments, gives them a node, and tells Services of them. */
  #startControllers(): void {
    const folder = this.#folder;
    const controllers = [
      ...['deployment-controller', 'replicaset-controller', 'endpointslice-controller'],
      // Takes from a node that is ready the taint it was registered with.
      ...['garbage-collector-controller', 'node-lifecycle-controller'],
    ];
    const common = [
      ...['--kubeconfig', join(folder, 'kubeconfig.json'), '--cert-dir', join(folder, 'certificates')],
      ...['--bind-address', '127.0.0.1', '--leader-elect=false'],
    ];
    this.#spawn('kube-controller-manager', [...common, '--controllers', controllers.join(',')]);
    this.#spawn('kube-scheduler', [
      ...['--config', join(folder, 'scheduler.json'), '--cert-dir', join(folder, 'certificates')],
      ...['--bind-address', '127.0.0.1'],
    ]);
  }

  async startKubelet(): Promise<void> {
    this.#spawn('kubelet', [
      ...[
        '--config',
        join(this.#folder, 'kubelet.json'),
        '--kubeconfig',
        join(this.#folder, 'kubeconfig.json'),
      ],
      ...['--hostname-override', nodeName, '--node-ip', nodeAddress, '--node-labels', 'spin=true'],
      ...['--cert-dir', join(this.#folder, 'kubelet-certificates')],
    ]);
  }

  /** Folder whose files kubelet takes for pods of its own. */
  get staticPods(): string {
    return join(this.#folder, 'static-pods');
  }

  /** Ends kubelet; pods stay as they are. */
  async stopKubelet(): Promise<void> {
    const child = this.#children.get('kubelet');
    if (child !== undefined) await endProcess(child);
  }

  async isNodeReady(): Promise<boolean> {
    const conditions = await this.ask('get', 'node', nodeName, '--output', 'jsonpath={.status.conditions}');
    const list = JSON.parse(conditions) as readonly { readonly type: string; readonly status: string }[];
    return list.some(({ type, status }) => type === 'Ready' && status === 'True');
  }

  /**
   * Runs `kubectl ARGS`; rejects with what it printed unless it exits with 0. One that did not get as far as asking, since the
   * server was late with its part of the handshake, is run again: its patience of ten seconds cannot be set.
   */
  async kubectl(...args: readonly string[]): Promise<Output> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#kubectl(args);
      } catch (error) {
        const { stderr = '' } = error as { readonly stderr?: string };
        if (tries === handshakes || !stderr.includes('TLS handshake timeout')) throw error;
      }
    }
  }

  #kubectl(args: readonly string[]): Promise<Output> {
    const flags = [
      '--kubeconfig',
      join(this.#folder, 'kubeconfig.json'),
      '--cache-dir',
      join(this.#folder, 'cache'),
    ];
    return execute(join(this.#tools, 'kubectl'), [...flags, ...args], {
      timeout: commandTimeoutMs * timeScale,
    });
  }

  /** Standard output of `kubectl ARGS` without the white space around it. */
  async ask(...args: readonly string[]): Promise<string> {
    return (await this.kubectl(...args)).stdout.trim();
  }

  /** Asks the API server itself, which takes a tenth of the time of a `kubectl`; rejects unless the answer is 200. */
  get(path: string): Promise<unknown> {
    const options = { headers: { authorization: `Bearer ${token}` }, rejectUnauthorized: false };
    return new Promise((resolve, reject) => {
      const asked = get(`${apiUrl}${path}`, options, (answer) => {
        const pieces: Buffer[] = [];
        answer.on('data', (piece: Buffer) => pieces.push(piece));
        answer.on('error', reject);
        answer.on('end', () => {
          const text = Buffer.concat(pieces).toString('utf8');
          if (answer.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`"${path}" was answered with ${answer.statusCode}: ${text}`));
        });
      });
      asked.on('error', reject);
    });
  }

  /** Makes objects as `kubectl apply` does. */
  async apply(...objects: readonly object[]): Promise<void> {
    const file = join(this.#folder, 'objects.json');
    await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
    // The server needs longer to describe its objects here than kubectl waits for that.
    await this.kubectl('apply', '--validate=false', '--filename', file);
  }

  /** The end of every program's log. */
  logTails(): string {
    return clusterTools
      .map((name) => join(this.#folder, `${name}.log`))
      .filter((file) => existsSync(file))
      .map((file) => `${file}\n${readFileSync(file).subarray(-logTailBytes).toString('utf8')}`)
      .join('\n');
  }

  /** Ends every program, kubelet first, and removes the folder. */
  async stop(): Promise<void> {
    for (const name of stopOrder) {
      const child = this.#children.get(name);
      if (child !== undefined) await endProcess(child);
    }
    await execute('ip', ['link', 'delete', 'node0']).catch(() => {});
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #isServing(): Promise<boolean> {
    const ended = [...this.#children].find(([, { exitCode }]) => exitCode !== null);
    if (ended !== undefined) throw new Error(`${ended[0]} ended`);
    await this.kubectl('get', '--raw', '/readyz');
    await this.kubectl('get', 'namespace', 'default');
    return true;
  }

  #patience(): { readonly timeoutMs: number; readonly intervalMs: number } {
    return { timeoutMs: 60_000, intervalMs: 500 };
  }

  async #writeFiles(): Promise<void> {
    const folder = this.#folder;
    await mkdir(this.staticPods, { recursive: true });
    const { privateKey, publicKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    const kubeconfig = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: apiUrl, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'test', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      'current-context': 'test',
    };
    const scheduler = {
      apiVersion: 'kubescheduler.config.k8s.io/v1',
      kind: 'KubeSchedulerConfiguration',
      leaderElection: { leaderElect: false },
      clientConnection: { kubeconfig: join(folder, 'kubeconfig.json') },
    };
    const kubelet = {
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: 'AlwaysAllow' },
      cgroupDriver: 'systemd',
      containerRuntimeEndpoint: `unix://${this.#runtimeAddress}`,
      failSwapOn: false,
      makeIPTablesUtilChains: false,
      // There is no name server.
      resolvConf: '',
      evictionHard: { 'nodefs.available': '0%', 'imagefs.available': '0%', 'memory.available': '10Mi' },
      imageGCHighThresholdPercent: 100,
      runtimeRequestTimeout: '10m',
      staticPodPath: this.staticPods,
      fileCheckFrequency: '1s',
    };
    const files = {
      'account.key': privateKey,
      'account.pub': publicKey,
      'tokens.csv': `${token},admin,1,"system:masters"\n`,
      'kubeconfig.json': JSON.stringify(kubeconfig),
      'kubelet.json': JSON.stringify(kubelet),
      'scheduler.json': JSON.stringify(scheduler),
    };
    for (const [name, text] of Object.entries(files))
      await writeFile(join(folder, name), text, { mode: 0o600 });
  }

  #spawn(name: ClusterTool, args: readonly string[]): void {
    const log = openSync(join(this.#folder, `${name}.log`), 'a');
    const child = spawn(join(this.#tools, name), args, {
      cwd: this.#folder,
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#children.set(name, child);
  }
}
