// Runs in the machine of `make kubelet` only: a kubelet changes the sysctls and cgroups of the machine it runs on.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { httpGet } from '../support/http-get.ts';
import { SpinNode } from '../support/spin-node.ts';
import { waitFor } from '../support/wait.ts';
import { Cluster, nodeName, toolsFolder } from './cluster.ts';

const root = join(import.meta.dirname, '..', '..');
/** For every wait of this file: kubelet itself takes seconds to look again. */
const patience = { timeoutMs: 60_000, intervalMs: 500 } as const;

type ContainerState = {
  readonly terminated?: { readonly exitCode: number; readonly reason: string };
  readonly waiting?: { readonly reason?: string; readonly message?: string };
};
type ContainerStatus = {
  readonly ready: boolean;
  readonly restartCount: number;
  readonly containerID?: string;
  readonly state: ContainerState;
  readonly lastState: ContainerState;
};
type PodStatus = {
  readonly phase: string;
  readonly podIP?: string;
  readonly containerStatuses?: readonly ContainerStatus[];
};

describe('pods of a kubelet', { timeout: 40 * 60_000 }, () => {
  let node: SpinNode;
  let cluster: Cluster;

  before(async () => {
    node = await SpinNode.start(['rust-http']);
    cluster = await Cluster.start(join(root, toolsFolder), node.containerd.address);
    await cluster.kubectl('apply', '--filename', join(root, 'deploy/kubernetes/runtime-class.yaml'));
  });
  after(async () => {
    await cluster?.stop();
    await node?.stop();
  });

  /** A pod of one Spin container on the one node, as a scheduler would have placed it. */
  function podOf(
    name: string,
    image: 'rust-http',
    container: object,
    spec: object = {},
    annotations: Readonly<Record<string, string>> = {},
  ): object {
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, annotations },
      spec: {
        nodeName,
        runtimeClassName: 'wasmtime-spin-v2',
        automountServiceAccountToken: false,
        containers: [
          {
            name: 'main',
            image: node.image(image),
            imagePullPolicy: 'IfNotPresent',
            command: ['/'],
            ...container,
          },
        ],
        ...spec,
      },
    };
  }

  async function statusOf(name: string): Promise<PodStatus & { readonly main: ContainerStatus }> {
    const status = JSON.parse(
      await cluster.ask('get', 'pod', name, '--output', 'jsonpath={.status}'),
    ) as PodStatus;
    const [main] = status.containerStatuses ?? [];
    if (main === undefined) throw new Error(`no container of "${name}" yet`);
    return { ...status, main };
  }

  /** Waits until the status of a pod is as wanted; a failure shows the last one and the pod's events. */
  async function reach(
    name: string,
    reached: (status: PodStatus & { readonly main: ContainerStatus }) => boolean,
  ): Promise<PodStatus & { readonly main: ContainerStatus }> {
    let last: unknown;
    try {
      return await waitFor(
        `pod "${name}" to change its status`,
        async () => {
          const status = await statusOf(name);
          last = status;
          return reached(status) && status;
        },
        patience,
      );
    } catch (error) {
      const { stdout } = await cluster
        .kubectl('describe', 'pod', name)
        .catch(() => ({ stdout: 'no description' }));
      throw new Error(`${String(error)}\n${JSON.stringify(last)}\n${stdout}\n${cluster.logTails()}`, {
        cause: error,
      });
    }
  }

  const isReady = ({ main }: { readonly main: ContainerStatus }): boolean => main.ready;

  async function answer(name: string, path: string): Promise<string> {
    return (await httpGet(`http://${(await statusOf(name)).podIP}${path}`)).text;
  }

  async function enginePid(name: string): Promise<number> {
    const id = ((await statusOf(name)).main.containerID ?? '').replace('containerd://', '');
    const { info } = await node.cri.verboseStatus(id);
    return (JSON.parse(info ?? '{}') as { readonly pid: number }).pid;
  }

  const health = {
    httpGet: { path: '/.well-known/spin/health', port: 80 },
    periodSeconds: 2,
    timeoutSeconds: 20,
  };

  test('a pod with probes, hooks, limits, a ConfigMap and the downward API becomes ready and serves', async () => {
    await cluster.apply(
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'settings' },
        data: { 'note.txt': 'from a ConfigMap\n', WORD: 'from a key' },
      },
      podOf(
        'web',
        'rust-http',
        {
          ports: [{ containerPort: 80 }],
          env: [
            { name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
            { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
            { name: 'WORD', valueFrom: { configMapKeyRef: { name: 'settings', key: 'WORD' } } },
          ],
          volumeMounts: [
            { name: 'settings', mountPath: '/config', readOnly: true },
            { name: 'scratch', mountPath: '/scratch' },
          ],
          resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { cpu: '1', memory: '256Mi' } },
          startupProbe: { exec: { command: ['true'] }, periodSeconds: 2, timeoutSeconds: 20 },
          readinessProbe: {
            exec: { command: ['curl', '-fsS', 'http://localhost/hello/probe'] },
            periodSeconds: 2,
            timeoutSeconds: 20,
          },
          livenessProbe: health,
          lifecycle: {
            postStart: { exec: { command: ['echo', 'started'] } },
            preStop: { exec: { command: ['sleep', '1'] } },
          },
        },
        {
          volumes: [
            { name: 'settings', configMap: { name: 'settings' } },
            { name: 'scratch', emptyDir: {} },
          ],
        },
        { 'spin.shim/files': 'rust-http:/config, rust-http:/scratch:rw' },
      ),
    );
    const { podIP, main } = await reach('web', isReady);
    assert.equal(main.restartCount, 0);
    assert.equal(await answer('web', '/hello/kubelet'), 'Hello, kubelet, from Rust\n');
    assert.equal(await answer('web', '/file/config/note.txt'), 'from a ConfigMap\n');
    const environment = await cluster.ask('exec', 'web', '--', 'env');
    for (const line of ['POD_NAME=web', `POD_IP=${podIP}`, 'WORD=from a key'])
      assert.ok(environment.split('\n').includes(line), `${line} in ${environment}`);
  });

  test('kubectl logs, exec with its exit code, port and describe', async () => {
    assert.equal(await answer('web', '/log?seen'), 'logged\n');
    await waitFor('the log', async () => /^out seen$/m.test(await cluster.ask('logs', 'web')), patience);
    assert.match(await cluster.ask('logs', 'web'), /Serving http/);
    assert.equal(await cluster.ask('exec', 'web', '--', 'sh', '-c', 'echo a shell line'), 'a shell line');
    await assert.rejects(cluster.kubectl('exec', 'web', '--', 'sh', '-c', 'exit 7'), { code: 7 });
    assert.match(await cluster.ask('describe', 'pod', 'web'), /Started container main|Started\s/);
  });

  test("kubelet's statistics show the container's CPU and memory, which kubectl top and autoscalers read", async () => {
    type Summary = {
      readonly pods: readonly {
        readonly podRef: { readonly name: string };
        readonly containers?: readonly {
          readonly name: string;
          readonly cpu?: { readonly usageCoreNanoSeconds?: number };
          readonly memory?: { readonly workingSetBytes?: number };
        }[];
      }[];
    };
    const path = `/api/v1/nodes/${nodeName}/proxy`;
    const main = await waitFor(
      'statistics of the container',
      async () => {
        const { pods } = JSON.parse(await cluster.ask('get', '--raw', `${path}/stats/summary`)) as Summary;
        const containers = pods.find(({ podRef }) => podRef.name === 'web')?.containers ?? [];
        const found = containers.find(({ name }) => name === 'main');
        return (
          (found?.memory?.workingSetBytes ?? 0) > 0 && (found?.cpu?.usageCoreNanoSeconds ?? 0) > 0 && found
        );
      },
      patience,
    );
    assert.ok((main.memory?.workingSetBytes ?? 0) > 256 * 1024);
    const metrics = await cluster.ask('get', '--raw', `${path}/metrics/resource`);
    for (const name of ['container_cpu_usage_seconds_total', 'container_memory_working_set_bytes'])
      assert.match(
        metrics,
        new RegExp(`^${name}\\{container="main",namespace="default",pod="web"\\} [\\d.e+]+`, 'm'),
      );
  });

  test('a killed engine is started again, its end is told', async () => {
    process.kill(await enginePid('web'), 'SIGKILL');
    const { main } = await reach('web', (status) => status.main.restartCount === 1 && status.main.ready);
    assert.deepEqual(
      [main.lastState.terminated?.exitCode, main.lastState.terminated?.reason],
      [137, 'Error'],
    );
    assert.equal(await answer('web', '/hello'), 'Hello, world, from Rust\n');
    assert.match(await cluster.ask('logs', '--previous', 'web'), /Serving http/);
  });

  test('pods live through a restart of kubelet', async () => {
    const before = (await statusOf('web')).main;
    await cluster.stopKubelet();
    assert.equal(await answer('web', '/hello'), 'Hello, world, from Rust\n');
    await cluster.startKubelet();
    await waitFor('the node to be ready', () => cluster.isNodeReady(), patience);
    await waitFor(
      'an exec',
      async () => (await cluster.ask('exec', 'web', '--', 'echo', 'back')) === 'back',
      patience,
    );
    const { main } = await reach('web', isReady);
    assert.deepEqual([main.containerID, main.restartCount], [before.containerID, before.restartCount]);
  });
});
