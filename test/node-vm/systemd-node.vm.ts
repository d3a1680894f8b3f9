// Runs in the machine of `make node-vm` only: systemd is its init, and the one cgroup hierarchy is of version 2.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { cgroupRoots, memoryProcessFile } from '../support/cgroups.ts';
import type { ContainerInput } from '../support/cri.ts';
import { memoryHog } from '../support/memory-hog.ts';
import type { Pod } from '../support/pod.ts';
import { SpinNode } from '../support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from '../support/wait.ts';

const run = promisify(execFile);
const mebibyte = 1024 * 1024;
const hierarchy = '/sys/fs/cgroup';

/** The slice that a kubelet with the systemd driver gives a pod, and where systemd puts it. */
const slice = 'kubepods-burstable-podspinshimtest.slice';
const sliceFolder = `/kubepods.slice/kubepods-burstable.slice/${slice}`;

/** Properties of a unit as `systemctl show` prints them. */
async function unit(
  name: string,
  ...properties: readonly string[]
): Promise<Readonly<Record<string, string>>> {
  const { stdout } = await run('systemctl', ['show', name, `--property=${properties.join(',')}`]);
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

function cgroupOf(pid: number): string {
  const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim();
  assert.match(line, /^0::/, 'one hierarchy, of version 2');
  return line.slice(3);
}

function setting(cgroup: string, file: string): string {
  return readFileSync(join(hierarchy, cgroup, file), 'utf8').trim();
}

describe('a node with systemd and cgroup version 2', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;

  before(async () => {
    assert.ok(existsSync('/run/systemd/system'), 'systemd is the init');
    assert.deepEqual(cgroupRoots(), [hierarchy]);
    node = await SpinNode.start(['hello', 'rust-http']);
  });
  after(() => node.stop());

  function start(
    name: string,
    image: 'hello' | 'rust-http',
    container: Partial<ContainerInput>,
  ): Promise<Pod> {
    return node.run({ name, image: node.image(image), pod: { cgroupParent: slice }, container });
  }

  test('the engine and the sandbox are scopes of the pod slice, with the limits of the container', async () => {
    const memoryLimit = 256 * mebibyte;
    const resources = { memoryLimit, cpuPeriod: 100_000, cpuQuota: 50_000, cpuShares: 512 };
    const pod = await start('scope', 'hello', { resources });
    assert.equal((await pod.request('/')).status, 200);
    const scope = `cri-containerd-${pod.containerId}.scope`;
    const cgroup = cgroupOf(await pod.pid());
    assert.equal(cgroup, `${sliceFolder}/${scope}`);
    assert.ok(
      existsSync(join(hierarchy, sliceFolder, `cri-containerd-${pod.id}.scope`)),
      'the sandbox has one too',
    );

    const limits = (): readonly string[] =>
      ['memory.max', 'cpu.max', 'cpu.weight'].map((file) => setting(cgroup, file));
    // cpu.shares 512 on the scale of version 2, by the formula of the OCI runtimes.
    assert.deepEqual(limits(), [String(memoryLimit), '50000 100000', '20']);
    const shown = await unit(scope, 'ActiveState', 'Slice', 'MemoryMax', 'CPUQuotaPerSecUSec', 'Delegate');
    assert.deepEqual(shown, {
      ActiveState: 'active',
      Slice: slice,
      MemoryMax: String(memoryLimit),
      CPUQuotaPerSecUSec: '500ms',
      Delegate: 'yes',
    });

    // What systemd remembers is what it writes again.
    await run('systemctl', ['daemon-reload']);
    assert.deepEqual(limits(), [String(memoryLimit), '50000 100000', '20']);
    await node.cri.updateResources(pod.containerId, { memoryLimit: 2 * memoryLimit });
    assert.equal(setting(cgroup, 'memory.max'), String(2 * memoryLimit));
    await run('systemctl', ['daemon-reload']);
    assert.equal(setting(cgroup, 'memory.max'), String(2 * memoryLimit));
    assert.deepEqual(await unit(scope, 'MemoryMax'), { MemoryMax: String(2 * memoryLimit) });

    const stats = await node.cri.stats(pod.containerId);
    const current = Number(setting(cgroup, 'memory.current'));
    const usage = stats.memory?.usage_bytes?.value ?? 0;
    // Most of an engine was taken before it came here, and is counted where it booted.
    assert.ok(usage > mebibyte / 4 && Math.abs(usage - current) < 16 * mebibyte, `${usage} of ${current}`);
    const cpu = (stats.cpu?.usage_core_nano_seconds?.value ?? 0) / 1000;
    const counted = Number(/^usage_usec (\d+)/.exec(setting(cgroup, 'cpu.stat'))?.[1]);
    assert.ok(cpu > 0 && cpu <= counted, `${cpu} of ${counted} µs`);

    await pod.remove();
    await waitFor('the scopes to go', async () => {
      const left = await unit(scope, 'ActiveState');
      return left.ActiveState === 'inactive' && !existsSync(join(hierarchy, cgroup));
    });
  });

  test('a task is paused and goes on', async () => {
    const pod = await start('freeze', 'hello', {});
    const cgroup = cgroupOf(await pod.pid());
    const ctr = node.containerd.ctr();
    await ctr.exec(['task', 'pause', pod.containerId]);
    await waitFor('the cgroup to be frozen', () => /frozen 1/.test(setting(cgroup, 'cgroup.events')));
    await ctr.exec(['task', 'resume', pod.containerId]);
    assert.equal((await pod.request('/')).status, 200);
    await pod.remove();
  });

  test('a kill for want of memory is told at once, while the container lives on', async (t) => {
    const resources = { memoryLimit: 256 * mebibyte };
    const pod = await start('hog', 'hello', { resources });
    const hog = memoryHog();
    t.after(() => hog.kill('SIGKILL'));
    await writeFile(memoryProcessFile(await pod.pid()), String(hog.pid));
    hog.stdin?.write('go\n');
    const { state } = await waitFor('containerd to hear of it', async () => {
      const status = await pod.status();
      return status.reason === 'OOMKilled' && status;
    });
    assert.equal(state, 'CONTAINER_RUNNING');
    assert.equal((await pod.request('/')).status, 200);
    await pod.remove();
  });

  test('a container that outgrows its memory limit is ended, and CRI tells why: of it, and not of its sandbox', async (t) => {
    const resources = { memoryLimit: 128 * mebibyte };
    const pod = await start('memory', 'rust-http', { resources });
    const events = await node.containerd.ctr().events();
    t.after(() => events.stop());
    await assert.rejects(pod.request('/alloc/124', { timeoutMs: 120_000 }), /socket hang up|ECONNRESET/);
    const { exit_code, reason } = await pod.ended();
    assert.deepEqual([exit_code, reason], [137, 'OOMKilled']);
    await pod.remove();
    const topicsOf = (id: string): readonly string[] =>
      events.all.filter(({ payload }) => payload.container_id === id).map(({ topic }) => topic);
    await waitFor('the end of the sandbox', () => topicsOf(pod.id).includes('/tasks/delete'));
    assert.deepEqual(topicsOf(pod.containerId), ['/tasks/oom', '/tasks/exit', '/tasks/delete']);
    assert.deepEqual(topicsOf(pod.id), ['/tasks/exit', '/tasks/delete']);
  });

  test('a killed engine leaves no scope behind', async () => {
    const pod = await start('killed', 'hello', {});
    const pid = await pod.pid();
    const cgroup = cgroupOf(pid);
    process.kill(pid, 'SIGKILL');
    assert.equal((await pod.ended()).exit_code, 137);
    await pod.remove();
    await waitFor('the slice to be empty', () => !existsSync(join(hierarchy, cgroup)));
    const { stdout } = await run('systemctl', [
      'list-units',
      '--all',
      '--plain',
      '--no-legend',
      'cri-containerd-*',
    ]);
    assert.equal(stdout.trim(), '');
  });
});
