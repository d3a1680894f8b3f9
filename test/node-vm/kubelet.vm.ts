// Runs in the machine of `make kubelet` only: a kubelet changes the sysctls and cgroups of the machine it runs on.
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { httpGet } from '../support/http-get.ts';
import { importMixedImages, mixedImages } from '../support/sidecar.ts';
import { SpinNode } from '../support/spin-node.ts';
import { waitFor } from '../support/wait.ts';
import { Cluster, nodeName, toolsFolder } from './cluster.ts';
import { prepareApps } from './prepare-apps.ts';

const root = join(import.meta.dirname, '..', '..');
/** For every wait of this file: kubelet itself takes seconds to look again. */
const patience = { timeoutMs: 60_000, intervalMs: 500 } as const;

/** What is left to begin a request in, after a pod's deletion was asked for. */
const preStopSeconds = 10;

type ContainerState = {
  readonly terminated?: { readonly exitCode: number; readonly reason: string; readonly message?: string };
  readonly waiting?: { readonly reason?: string; readonly message?: string };
};
type ContainerStatus = {
  readonly name: string;
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

describe('pods of a kubelet', { timeout: 80 * 60_000 }, () => {
  let node: SpinNode;
  let cluster: Cluster;

  before(async () => {
    node = await SpinNode.start(['rust-http']);
    await importMixedImages(node.containerd);
    // Beside a starting cluster the emulated machine takes longer than a preparation may.
    await prepareApps(node, ['rust-http']);
    cluster = await Cluster.start(join(root, toolsFolder), node.containerd.address);
    const runtimeClass = join(root, 'deploy/kubernetes/runtime-class.yaml');
    await cluster.kubectl('apply', '--validate=false', '--filename', runtimeClass);
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

  const runtimeId = ({ containerID = '' }: ContainerStatus): string =>
    containerID.replace('containerd://', '');

  /** How a container has ended, as CRI tells until kubelet removes it. */
  async function endOf(id: string): Promise<{ readonly exitCode: number; readonly reason: string }> {
    const { exit_code, reason } = await waitFor(
      'the container to end',
      async () => {
        const status = await node.cri.status(id);
        return status.state === 'CONTAINER_EXITED' && status;
      },
      { ...patience, intervalMs: 100 },
    );
    return { exitCode: exit_code, reason };
  }

  const isGone = async (name: string): Promise<boolean> =>
    (await cluster.ask('get', 'pod', name, '--ignore-not-found', '--output', 'name')) === '';

  async function remove(name: string): Promise<void> {
    await cluster.kubectl('delete', 'pod', name, '--wait=false');
    await waitFor('the pod to go', () => isGone(name), patience);
  }

  async function statusOf(name: string): Promise<PodStatus & { readonly main: ContainerStatus }> {
    const status = JSON.parse(
      await cluster.ask('get', 'pod', name, '--output', 'jsonpath={.status}'),
    ) as PodStatus;
    const main = status.containerStatuses?.find((container) => container.name === 'main');
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
    const { info } = await node.cri.verboseStatus(runtimeId((await statusOf(name)).main));
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
            preStop: { exec: { command: ['sleep', String(preStopSeconds)] } },
          },
        },
        {
          terminationGracePeriodSeconds: 90,
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

  test('a pod is deleted with a request under way: it is answered to its end, and the app ends with 0', async () => {
    const { podIP, main } = await statusOf('web');
    const end = endOf(runtimeId(main));
    await cluster.kubectl('delete', 'pod', 'web', '--wait=false');
    const response = await fetch(`http://${podIP}/stream/25/1000`);
    let isWhole = false;
    const text = response.text().finally(() => {
      isWhole = true;
    });
    await waitFor(
      'the app to take no more connections',
      () =>
        httpGet(`http://${podIP}/hello`).then(
          () => false,
          (error: unknown) => String(error).includes('ECONNREFUSED'),
        ),
      patience,
    );
    assert.equal(isWhole, false);
    assert.match(await text, /^chunk 0\n.*chunk 24\n$/s);
    assert.deepEqual(await end, { exitCode: 0, reason: 'Completed' });
    await waitFor('the pod to go', () => isGone('web'), patience);
  });

  test('a container that outgrows its memory limit shows as OOMKilled', async () => {
    const resources = { requests: { cpu: '10m', memory: '64Mi' }, limits: { cpu: '1', memory: '128Mi' } };
    await cluster.apply(podOf('memory', 'rust-http', { resources }, { restartPolicy: 'Never' }));
    await reach('memory', isReady);
    // The pod has the sum of its containers' limits: it is the pod's limit that is met, by the app and the sandbox together.
    await assert.rejects(answer('memory', '/alloc/124'), /socket hang up|ECONNRESET/);
    const { main } = await reach('memory', ({ phase }) => phase === 'Failed');
    const { exitCode, reason } = main.state.terminated ?? {};
    assert.deepEqual([exitCode, reason], [137, 'OOMKilled']);
    await remove('memory');
  });

  test('a container whose exec liveness probe fails is ended in order, and started again', async () => {
    const livenessProbe = {
      exec: { command: ['sh', '-c', 'echo sick; exit 3'] },
      initialDelaySeconds: 5,
      periodSeconds: 2,
      timeoutSeconds: 20,
      failureThreshold: 1,
    };
    await cluster.apply(podOf('sick', 'rust-http', { livenessProbe }));
    const { main } = await reach('sick', (status) => status.main.lastState.terminated?.exitCode === 0);
    assert.equal(main.lastState.terminated?.reason, 'Completed');
    assert.ok(main.restartCount > 0);
    const described = await cluster.ask('describe', 'pod', 'sick');
    assert.match(described, /Liveness probe failed: sick/);
    assert.match(described, /failed liveness probe, will be restarted/);
    await remove('sick');
  });

  test('a request that outlasts the grace period is cut off by SIGKILL', async () => {
    const livenessProbe = {
      exec: { command: ['false'] },
      initialDelaySeconds: 30,
      timeoutSeconds: 20,
      failureThreshold: 1,
      terminationGracePeriodSeconds: 3,
    };
    await cluster.apply(podOf('long', 'rust-http', { livenessProbe }));
    const { podIP } = await reach('long', isReady);
    const response = await fetch(`http://${podIP}/stream/600/1000`);
    await assert.rejects(response.text());
    const { main } = await reach('long', (status) => status.main.restartCount > 0);
    const { exitCode, reason } = main.lastState.terminated ?? {};
    assert.deepEqual([exitCode, reason], [137, 'Error']);
    await remove('long');
  });

  test('an app that cannot start waits in CrashLoopBackOff, with the reason where kubelet looks for it', async () => {
    const env = [{ name: 'SPIN_COMPONENTS_TO_RETAIN', value: 'nobody' }];
    await cluster.apply(podOf('broken', 'rust-http', { env }));
    const { main } = await reach(
      'broken',
      (status) =>
        status.main.state.waiting?.reason === 'CrashLoopBackOff' &&
        /nobody/.test(status.main.lastState.terminated?.message ?? ''),
    );
    assert.equal(main.ready, false);
    assert.equal(main.lastState.terminated?.reason, 'StartError');
    await remove('broken');
  });

  test('Linux containers before and beside the app have their own image, log and exec, and end with the pod', async () => {
    const linux = (name: string, ...args: readonly string[]): object => ({
      name,
      image: mixedImages.sidecar,
      imagePullPolicy: 'Never',
      args,
    });
    const [main] = (podOf('mixed', 'rust-http', {}) as { spec: { containers: readonly object[] } }).spec
      .containers;
    const initContainers = [linux('init', 'say', 'prepared', '0')];
    const containers = [main, linux('side', 'wait')];
    await cluster.apply(podOf('mixed', 'rust-http', {}, { initContainers, containers }));
    const { containerStatuses = [] } = await reach(
      'mixed',
      ({ containerStatuses: all = [] }) => all.length === 2 && all.every(({ ready }) => ready),
    );
    assert.deepEqual(
      containerStatuses.map(({ restartCount }) => restartCount),
      [0, 0],
    );
    assert.equal(await answer('mixed', '/hello'), 'Hello, world, from Rust\n');
    assert.equal(
      await cluster.ask(
        'exec',
        'mixed',
        '--container',
        'side',
        '--',
        '/bin/sidecar',
        'fetch',
        '80',
        '/hello/side',
      ),
      'Hello, side, from Rust',
    );
    assert.match(await cluster.ask('logs', 'mixed', '--container', 'init'), /^prepared$/m);
    await remove('mixed');
  });

  test('a static pod runs, is shown by the API server, and ends with its file', async () => {
    const file = join(cluster.staticPods, 'still.json');
    await writeFile(file, JSON.stringify(podOf('still', 'rust-http', {})));
    const { main } = await reach(`still-${nodeName}`, isReady);
    assert.equal(await answer(`still-${nodeName}`, '/hello'), 'Hello, world, from Rust\n');
    const end = endOf(runtimeId(main));
    await rm(file);
    assert.deepEqual(await end, { exitCode: 0, reason: 'Completed' });
    await waitFor('the pod to go', () => isGone(`still-${nodeName}`), patience);
  });
});
