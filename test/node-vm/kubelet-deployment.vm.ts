// Runs in the machine of `make kubelet` only, as kubelet.vm.ts does.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SampleApp } from '../support/apps.ts';
import { type Footprint, quietFootprint } from '../support/footprint.ts';
import { httpGet } from '../support/http-get.ts';
import { SpinNode } from '../support/spin-node.ts';
import { waitFor } from '../support/wait.ts';
import { Cluster, nodeName, toolsFolder } from './cluster.ts';
import { prepareApps } from './prepare-apps.ts';

const root = join(import.meta.dirname, '..', '..');
const patience = { timeoutMs: 90_000, intervalMs: 500 } as const;

/** Bytes that an idle app's memory may change by while it is asked for. */
const sameMemory = 16 * 1024 * 1024;

/** Requests that have to be answered by either version while one takes the place of the other. */
const leastAnswers = 30;

type Pods = {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly spec: { readonly containers: readonly { readonly image: string }[] };
    readonly status: {
      readonly containerStatuses?: readonly { readonly restartCount: number; readonly containerID: string }[];
    };
  }[];
};
type Slices = {
  readonly items: readonly {
    readonly endpoints?: readonly {
      readonly addresses: readonly string[];
      readonly conditions: { readonly ready?: boolean };
    }[];
  }[];
};

type Summary = {
  readonly pods: readonly {
    readonly podRef: { readonly name: string };
    readonly containers?: readonly {
      readonly name: string;
      readonly cpu: { readonly usageCoreNanoSeconds: number };
      readonly memory: { readonly workingSetBytes: number };
    }[];
  }[];
};

/** Seconds of CPU and bytes of memory that a process's cgroup tells, memory without what the kernel may drop at once. */
function cgroupFigures(pid: number): { readonly cpu: number; readonly memory: number } {
  const [, path = ''] = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? [];
  const read = (file: string): string => readFileSync(join('/sys/fs/cgroup', path, file), 'utf8');
  const field = (file: string, name: string): number =>
    Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(read(file))?.[1]);
  return {
    cpu: field('cpu.stat', 'usage_usec') / 1e6,
    memory: Number(read('memory.current')) - field('memory.stat', 'inactive_file'),
  };
}

/** What the two versions answer, and which of them that was. */
const versionOf = (text: string): SampleApp | undefined => {
  if (text.startsWith('Hello from Spin!')) return 'hello';
  return text === 'Hello, world, from Rust\n' || /^(?:chunk \d\n){4}$/.test(text) ? 'rust-http' : undefined;
};

/** Where a Service's requests go: what a proxy on the node reads, too. */
async function endpointsOf(cluster: Cluster, service: string): Promise<readonly string[]> {
  const selector = `labelSelector=kubernetes.io/service-name=${service}`;
  const path = `/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?${selector}`;
  const { items } = (await cluster.get(path)) as Slices;
  const endpoints = items.flatMap(({ endpoints: list }) => list ?? []);
  return endpoints.flatMap(({ addresses, conditions }) => (conditions.ready === true ? addresses : []));
}

/** The logs of all containers there are. */
function podLogs(): string {
  const files = globSync('/var/log/pods/*/*/*.log');
  return files.map((file) => `${file}\n${readFileSync(file, 'utf8')}`).join('\n');
}

/** Clients of a Service, without a proxy: each request goes to the next of the endpoints, on a connection of its own. */
class Load {
  readonly answers = new Map<SampleApp, number>();
  readonly lost: string[] = [];
  /** What the pods had written when a request was lost: kubelet removes it with them. */
  readonly logs: string[] = [];
  readonly #cluster: Cluster;
  readonly #service: string;
  readonly #ended: Promise<unknown>;
  #endpoints: readonly string[] = [];
  #next = 0;
  #isOn = true;

  constructor(cluster: Cluster, service: string, endpoints: readonly string[]) {
    this.#cluster = cluster;
    this.#service = service;
    this.#endpoints = endpoints;
    // The second path takes a second, so that requests are under way whenever a pod is told to end.
    this.#ended = Promise.all([this.#follow(), this.#ask('/hello'), this.#ask('/stream/4/250')]);
  }

  /** Ends the clients, and gives what was not answered as it should. */
  async end(): Promise<readonly string[]> {
    this.#isOn = false;
    await this.#ended;
    return this.lost;
  }

  async #follow(): Promise<void> {
    while (this.#isOn) {
      this.#endpoints = await endpointsOf(this.#cluster, this.#service).catch(() => this.#endpoints);
      await sleep(200);
    }
  }

  async #ask(path: string): Promise<void> {
    while (this.#isOn) {
      const address = this.#endpoints[this.#next++ % this.#endpoints.length];
      if (address === undefined) this.lost.push('no endpoint is ready');
      else {
        const begun = Date.now();
        const told = await httpGet(`http://${address}${path}`, { timeoutMs: 30_000 }).then(
          ({ status, text }) => (status === 200 ? versionOf(text) : undefined) ?? `${status} ${text}`,
          (error: unknown) => String(error),
        );
        if (told === 'hello' || told === 'rust-http')
          this.answers.set(told, (this.answers.get(told) ?? 0) + 1);
        else {
          const from = new Date(begun).toISOString();
          this.logs.push(podLogs());
          this.lost.push(`${address}${path}, asked at ${from}, after ${Date.now() - begun} ms: ${told}`);
        }
      }
      await sleep(50);
    }
  }
}

describe('a Deployment', { timeout: 60 * 60_000 }, () => {
  let node: SpinNode;
  let cluster: Cluster;
  let emptyNode: Footprint;

  before(async () => {
    node = await SpinNode.start(['hello', 'rust-http']);
    await prepareApps(node, ['hello', 'rust-http']);
    emptyNode = await quietFootprint(node.containerd, 0);
    cluster = await Cluster.start(join(root, toolsFolder), node.containerd.address, { schedules: true });
    const runtimeClass = join(root, 'deploy/kubernetes/runtime-class.yaml');
    await cluster.kubectl('apply', '--validate=false', '--filename', runtimeClass);
  });
  after(async () => {
    await cluster?.stop();
    await node?.stop();
  });

  const podsNow = async (): Promise<Pods['items']> =>
    ((await cluster.get('/api/v1/namespaces/default/pods?labelSelector=app=hello')) as Pods).items;

  const ready = (count: number): Promise<readonly string[]> =>
    waitFor(
      `${count} ready endpoints`,
      async () => {
        const endpoints = await endpointsOf(cluster, 'hello');
        return endpoints.length === count && endpoints;
      },
      { ...patience, explain: () => cluster.logTails() },
    );

  /** Waits until all pods there are run that app. */
  const settled = (app: SampleApp): Promise<unknown> =>
    waitFor(
      `three pods of ${app} and no other`,
      async () => {
        const pods = await podsNow();
        const images = pods.map(({ spec }) => spec.containers[0]?.image);
        return images.length === 3 && images.every((image) => image === node.image(app));
      },
      { ...patience, explain: () => cluster.logTails() },
    );

  test('pods are made, placed by a scheduler and become ready', async () => {
    // deploy/kubernetes/app.yaml, with the patience that an emulated machine needs.
    const text = readFileSync(join(root, 'deploy/kubernetes/app.yaml'), 'utf8')
      .replace('replicas: 2', 'replicas: 1')
      .replace('registry.example/hello:1', node.image('rust-http'))
      .replace(
        'port: http-app }\n',
        'port: http-app }\n            periodSeconds: 2\n            timeoutSeconds: 20\n',
      )
      .replace('["sleep", "5"]', '["sleep", "60"]')
      .replace('    spec:\n', '    spec:\n      terminationGracePeriodSeconds: 180\n');
    const file = join('/tmp', 'deployment.yaml');
    await writeFile(file, text);
    await cluster.kubectl('apply', '--validate=false', '--filename', file);
    const [address] = await ready(1);
    assert.equal((await httpGet(`http://${address}/hello`)).text, 'Hello, world, from Rust\n');
  });

  test('it is scaled from one to three', async () => {
    await cluster.kubectl('scale', 'deployment/hello', '--replicas=3');
    const endpoints = await ready(3);
    for (const address of endpoints)
      assert.equal((await httpGet(`http://${address}/hello`)).text, 'Hello, world, from Rust\n');
    await cluster.kubectl('rollout', 'status', 'deployment/hello', '--timeout=60s');
  });

  test("kubelet's statistics are the figures of each pod's cgroup, which kubectl top and autoscalers read", async () => {
    const proxy = `/api/v1/nodes/${nodeName}/proxy`;
    for (const { metadata, status } of await podsNow()) {
      const id = status.containerStatuses?.[0]?.containerID.replace('containerd://', '') ?? '';
      const { info } = await node.cri.verboseStatus(id);
      const { pid } = JSON.parse(info ?? '{}') as { readonly pid: number };
      const before = cgroupFigures(pid);
      const inSummary = async (): Promise<{ cpu: number; memory: number } | undefined> => {
        const { pods } = (await cluster.get(`${proxy}/stats/summary`)) as Summary;
        const { containers = [] } = pods.find(({ podRef }) => podRef.name === metadata.name) ?? {};
        const [found] = containers;
        return found && { cpu: found.cpu.usageCoreNanoSeconds / 1e9, memory: found.memory.workingSetBytes };
      };
      const inMetrics = async (): Promise<{ cpu: number; memory: number }> => {
        const text = await cluster.ask('get', '--raw', `${proxy}/metrics/resource`);
        const value = (name: string): number => {
          const labels = `container="hello",namespace="default",pod="${metadata.name}"`;
          return Number(new RegExp(`^${name}\\{${labels}\\} ([\\d.e+]+)`, 'm').exec(text)?.[1]);
        };
        return {
          cpu: value('container_cpu_usage_seconds_total'),
          memory: value('container_memory_working_set_bytes'),
        };
      };
      for (const [what, ask] of [
        ['/stats/summary', inSummary],
        ['/metrics/resource', inMetrics],
      ] as const) {
        // kubelet keeps a reading for some seconds.
        const told = await waitFor(
          `${what} to tell what was used before`,
          async () => {
            const figures = await ask();
            return figures !== undefined && figures.cpu >= before.cpu && figures;
          },
          patience,
        );
        const now = cgroupFigures(pid);
        assert.ok(told.cpu <= now.cpu, `${what}: ${told.cpu} s, the cgroup ${now.cpu} s`);
        const difference = Math.abs(told.memory - now.memory);
        assert.ok(difference < sameMemory, `${what}: ${told.memory} bytes, the cgroup ${now.memory}`);
      }
    }
  });

  for (const [what, app, command] of [
    ['another version', 'hello', () => ['set', 'image', 'deployment/hello', `hello=${node.image('hello')}`]],
    ['the version before, by a rollback,', 'rust-http', () => ['rollout', 'undo', 'deployment/hello']],
  ] as const) {
    test(`${what} takes the place of all pods, and no request is lost`, async () => {
      const before = app === 'hello' ? 'rust-http' : 'hello';
      const load = new Load(cluster, 'hello', await ready(3));
      try {
        const enough = (version: SampleApp): Promise<unknown> =>
          waitFor(
            `${leastAnswers} answers of ${version}`,
            () => (load.answers.get(version) ?? 0) >= leastAnswers,
            patience,
          );
        await enough(before);
        await cluster.kubectl(...command());
        await settled(app);
        await enough(app);
      } finally {
        await load.end();
      }
      console.log(`answers: ${JSON.stringify([...load.answers])}, lost: ${load.lost.length}`);
      if (load.lost.length > 0) console.log([...load.logs, node.hostLog(), cluster.logTails()].join('\n'));
      assert.deepEqual(load.lost, []);
      for (const { metadata, status } of await podsNow())
        for (const { restartCount } of status.containerStatuses ?? [])
          assert.equal(restartCount, 0, metadata.name);
    });
  }

  test('its deletion leaves nothing on the node', async () => {
    await cluster.kubectl('delete', 'deployment/hello', 'service/hello', '--wait=false');
    await waitFor('the pods to go', async () => (await podsNow()).length === 0, patience);
    await waitFor('the sandboxes to go', async () => (await node.cri.listPods()).length === 0, patience);
    await waitFor(
      'the node to be as it was',
      async () => {
        assert.deepEqual(await quietFootprint(node.containerd, 0), emptyNode);
        return true;
      },
      patience,
    );
    assert.deepEqual(globSync('/sys/fs/cgroup/kubepods.slice/**/cri-containerd-*.scope'), []);
  });
});
