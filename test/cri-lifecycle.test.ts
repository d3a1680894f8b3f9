import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupFolders } from './support/cgroups.ts';
import { logLines, type Pod } from './support/pod.ts';
import { RollingClients } from './support/rolling-clients.ts';
import { SpinNode } from './support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from './support/wait.ts';

/** First line of /proc/PID/cgroup for the memory controller (version 1) or the one hierarchy (version 2). */
function memoryCgroup(pid: number): string {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
  const line =
    lines.find((entry) => entry.split(':')[1]?.split(',').includes('memory')) ?? lines.at(-1) ?? '';
  return line.split(':').slice(2).join(':');
}

describe('a Spin app through CRI', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;

  before(async () => {
    node = await SpinNode.start(['hello', 'rust-http', 'js-api']);
  });
  after(() => node.stop());

  test('answers on the pod address, says so in its log, ends on SIGTERM with 0', async () => {
    const pod = await node.run({ name: 'plain', image: node.image('hello') });
    const answer = await pod.request('/any/path');
    assert.equal(answer.status, 200);
    assert.equal(answer.text, 'Hello from Spin!\n');
    await pod.waitForLog('stdout', 'Serving http://0.0.0.0:80');
    const running = await pod.status();
    assert.equal(running.state, 'CONTAINER_RUNNING');
    assert.ok(running.started_at >= running.created_at);
    await pod.stop(10);
    const ended = await pod.status();
    assert.equal(ended.state, 'CONTAINER_EXITED');
    assert.equal(ended.exit_code, 0);
    assert.equal(ended.reason, 'Completed');
    assert.ok(ended.finished_at >= ended.started_at);
    await assert.rejects(pod.request('/'), /ECONNREFUSED/);
    await pod.remove();
  });

  test('ends with 137 when there is no grace', async () => {
    const pod = await node.run({ name: 'killed', image: node.image('hello') });
    await pod.stop(0);
    const { exit_code, reason } = await pod.status();
    assert.deepEqual([exit_code, reason], [137, 'Error']);
    await pod.remove();
  });

  test('lets a request in flight finish before it ends', async () => {
    const pod = await node.run({ name: 'drain', image: node.image('rust-http') });
    const streaming = pod.request('/stream/10/50');
    await pod.request('/');
    await pod.stop(20);
    assert.equal((await streaming).text.trim().split('\n').length, 10);
    assert.equal((await pod.status()).exit_code, 0);
    await pod.remove();
  });

  test('loses no request when pods take the place of others under load', async () => {
    const clients = new RollingClients('/');
    const start = async (index: number): Promise<Pod> => {
      const pod = await node.run({ name: `rolling-${index}`, image: node.image('hello') });
      clients.addresses.add(pod.ip);
      return pod;
    };
    let serving = await start(0);
    const load = clients.run(16);
    for (let round = 1; round <= 4; round++) {
      const { answered } = clients.counts;
      const next = await start(round);
      await waitFor('answers', () => clients.counts.answered >= answered + 100);
      await serving.stop(30);
      assert.equal((await serving.status()).exit_code, 0);
      clients.addresses.delete(serving.ip);
      await serving.remove();
      serving = next;
    }
    clients.end();
    await load;
    assert.deepEqual(clients.counts.lost, []);
    await serving.remove();
  });

  test('keeps stdout and stderr of the guest apart in the log', async () => {
    const pod = await node.run({ name: 'logs', image: node.image('rust-http') });
    assert.equal((await pod.request('/log?tree')).status, 200);
    await pod.waitForLog('stdout', 'out tree');
    await pod.waitForLog('stderr', 'err tree');
    assert.ok(!logLines(pod.log(), 'stderr').includes('out tree'));
    await pod.remove();
  });

  test('loses nothing of a large output, also when the pod is stopped right after it', async () => {
    const pod = await node.run({ name: 'large', image: node.image('js-api') });
    const lines = Array.from({ length: 20_000 }, (_, index) => `${index} ${'x'.repeat(40)}`);
    const long = 'y'.repeat(200_000);
    const answer = await pod.request('/log', { method: 'POST', body: [...lines, long].join('\n') });
    assert.equal(answer.status, 200);
    await pod.stop(10);
    // containerd has all of it by now, but writes the end of a log beside telling that the container has stopped.
    for (const stream of ['stdout', 'stderr'] as const) {
      await waitFor(`the end of ${stream} in the log`, () => logLines(pod.log(), stream).includes(long));
      const logged = logLines(pod.log(), stream);
      const first = logged.indexOf(lines[0] ?? '');
      assert.ok(first >= 0, `${stream} has the first line`);
      assert.deepEqual(logged.slice(first, first + lines.length + 1), [...lines, long]);
    }
    await pod.remove();
  });

  test('takes its variables and its listen address from the container environment', async () => {
    const pod = await node.run({
      name: 'environment',
      image: node.image('js-api'),
      port: 8088,
      container: { envs: { SPIN_VARIABLE_GREETING: 'good day', SPIN_HTTP_LISTEN_ADDR: '0.0.0.0:8088' } },
    });
    assert.equal((await pod.request('/variable/greeting')).text, 'good day');
    await pod.waitForLog('stdout', 'Serving http://0.0.0.0:8088');
    const seen = (await pod.request('/env')).text;
    assert.match(seen, /COLOUR/);
    assert.doesNotMatch(seen, /SPIN_/, 'the container environment is not the guest environment');
    await pod.remove();
  });

  test('reads a mounted runtime-config.toml', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spinshim-config-'));
    const config = join(folder, 'runtime-config.toml');
    const mounts = [{ hostPath: config, containerPath: '/runtime-config.toml', readonly: true }];
    await writeFile(config, '[[config_provider]]\ntype = "env"\nprefix = "SHOP"\n');
    const pod = await node.run({
      name: 'config',
      image: node.image('js-api'),
      container: { mounts, envs: { SHOP_GREETING: 'from the prefix' } },
    });
    assert.equal((await pod.request('/variable/greeting')).text, 'from the prefix');
    await pod.remove();

    await writeFile(config, '[outbound_networking]\nblock_networks = ["nonsense"]\n');
    const broken = await node.create({
      name: 'config-broken',
      image: node.image('hello'),
      container: { mounts },
    });
    await assert.rejects(broken.start(), /runtime-config\.toml.*block_networks.*nonsense/);
    await broken.waitForLog('stderr', /block_networks/);
    await broken.remove();
    await rm(folder, { recursive: true });
  });

  test('keeps key-value state for the life of the container, for itself alone', async () => {
    const [pod, other] = [
      await node.run({ name: 'kv', image: node.image('js-api') }),
      await node.run({ name: 'kv-other', image: node.image('js-api') }),
    ];
    assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
    assert.equal((await pod.request('/kv/colour')).text, 'green');
    assert.deepEqual(JSON.parse((await pod.request('/kv')).text), ['colour']);
    assert.equal((await other.request('/kv/colour')).status, 404);
    const stateFile = `${pod.containerId}/state/sqlite_key_value.db`;
    const files = () => readdirSync(node.containerd.root, { recursive: true, encoding: 'utf8' });
    assert.ok(files().some((name) => name.endsWith(stateFile)));
    await pod.remove();
    assert.ok(!files().some((name) => name.endsWith(stateFile)));
    await other.remove();
  });

  test('runs with a read-only root file system and as another user', async () => {
    const pod = await node.run({
      name: 'readonly',
      image: node.image('rust-http'),
      container: { readonlyRootfs: true, runAsUser: 1000, runAsGroup: 1000 },
    });
    assert.equal((await pod.request('/file/static/note.txt')).status, 200);
    assert.equal((await pod.request('/write/static/note.txt', { method: 'POST', body: 'x' })).status, 403);
    await pod.remove();
  });

  test('runs in the container cgroup with its limits, and has stats', async () => {
    const memoryLimit = 192 * 1024 * 1024;
    const pod = await node.run({
      name: 'limits',
      image: node.image('hello'),
      container: { resources: { memoryLimit, cpuPeriod: 100_000, cpuQuota: 50_000, cpuShares: 512 } },
    });
    await pod.request('/');
    const cgroup = memoryCgroup(await pod.pid());
    assert.equal(cgroup, `${node.containerd.cgroupParent}/${pod.containerId}`);
    const settings = (names: readonly string[]): string[] =>
      cgroupFolders(cgroup)
        .flatMap((folder) => names.map((name) => join(folder, name)))
        .filter((file) => existsSync(file))
        .map((file) => readFileSync(file, 'utf8').trim());
    assert.deepEqual(settings(['memory.limit_in_bytes', 'memory.max']), [String(memoryLimit)]);
    assert.match(settings(['cpu.cfs_quota_us', 'cpu.max']).join(), /^50000( 100000)?$/);

    const stats = await node.cri.stats(pod.containerId);
    assert.equal(stats.attributes.id, pod.containerId);
    const workingSet = stats.memory?.working_set_bytes?.value ?? 0;
    // What a waiting engine has touched before is counted where it booted, which leaves hello about 1 MiB.
    assert.ok(workingSet > 256 * 1024 && workingSet <= memoryLimit, `working set ${workingSet}`);
    assert.ok((stats.cpu?.usage_core_nano_seconds?.value ?? 0) > 0);
    assert.equal((await node.cri.listStats(pod.id)).length, 1);

    for (const limit of [2 * memoryLimit, memoryLimit]) {
      await node.cri.updateResources(pod.containerId, { memoryLimit: limit });
      assert.deepEqual(settings(['memory.limit_in_bytes', 'memory.max']), [String(limit)]);
    }
    await pod.remove();
    assert.deepEqual(cgroupFolders(cgroup), []);
  });

  test('starts again in the same pod after its engine was killed', async () => {
    const pod = await node.run({ name: 'crash', image: node.image('hello') });
    process.kill(await pod.pid(), 'SIGKILL');
    const ended = await pod.ended();
    assert.deepEqual([ended.exit_code, ended.reason], [137, 'Error']);
    await pod.restart();
    assert.equal((await pod.request('/')).status, 200);
    assert.equal((await node.cri.podStatus(pod.id)).state, 'SANDBOX_READY');
    await pod.remove();
  });

  test('a guest that traps fails its request and no other', async () => {
    const pod = await node.run({ name: 'trap', image: node.image('rust-http') });
    assert.equal((await pod.request('/panic')).status, 500);
    await pod.waitForLog('stderr', /panic on purpose/);
    assert.equal((await pod.request('/')).status, 200);
    assert.equal((await pod.status()).state, 'CONTAINER_RUNNING');
    await pod.remove();
  });
});
