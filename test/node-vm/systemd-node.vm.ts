// Runs in the machine of `make node-vm` only: systemd is its init, and the one cgroup hierarchy is of version 2.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { LogHub } from '../../src/telemetry/log.ts';
import { Sandbox } from '../../src/workload/sandbox.ts';
import { parseSpec } from '../../src/workload/spec.ts';
import { cgroupRoots, memoryProcessFile } from '../support/cgroups.ts';
import type { ContainerInput } from '../support/cri.ts';
import { quietFootprint } from '../support/footprint.ts';
import { memoryHog } from '../support/memory-hog.ts';
import type { Pod } from '../support/pod.ts';
import { SpinNode } from '../support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from '../support/wait.ts';
import { prepareApps } from './prepare-apps.ts';

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

/** What systemd knows of scopes of containers. */
async function scopeUnits(): Promise<string> {
  const { stdout } = await run('systemctl', [
    'list-units',
    '--all',
    '--plain',
    '--no-legend',
    'cri-containerd-*',
  ]);
  return stdout.trim();
}

/** The scopes of containers in the pod slice. */
function scopesLeft(): readonly string[] {
  const folder = join(hierarchy, sliceFolder);
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.scope')) : [];
}

describe('a node with systemd and cgroup version 2', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;

  before(async () => {
    assert.ok(existsSync('/run/systemd/system'), 'systemd is the init');
    assert.deepEqual(cgroupRoots(), [hierarchy]);
    node = await SpinNode.start(['hello', 'rust-http']);
    await prepareApps(node, ['hello', 'rust-http']);
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
    // The sandbox is placed in the background.
    const sandboxScope = `cri-containerd-${pod.id}.scope`;
    const members = await waitFor('both processes of the sandbox in its scope', () => {
      const pids = setting(`${sliceFolder}/${sandboxScope}`, 'cgroup.procs').split('\n');
      return pids.length === 2 && pids;
    });
    const commands = members.map((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
    assert.deepEqual(commands, ['spin-pause', 'spin-pause']);
    await waitFor('systemd to have the scope of the sandbox', async () => {
      assert.deepEqual(await unit(sandboxScope, 'ActiveState', 'Slice'), {
        ActiveState: 'active',
        Slice: slice,
      });
      return true;
    });

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

  test('a limit that is changed while systemd is still told of the sandbox is the one that stays', async (t) => {
    const path = await mkdtemp(join(tmpdir(), 'spinshim-sandbox-'));
    const name = 'updated';
    const cgroupsPath = `${slice}:cri-containerd:${name}`;
    const memory = { limit: 64 * mebibyte };
    const spec = parseSpec(JSON.stringify({ linux: { cgroupsPath, resources: { memory }, namespaces: [] } }));
    const { logger } = new LogHub('info', { write: (line) => t.diagnostic(line) });
    const launcher = join(import.meta.dirname, '..', '..', 'dist', 'bin', 'containerd-shim-spin-v2');
    const sandbox = new Sandbox(name, { path, rootfs: path, spec }, launcher, logger);
    t.after(async () => {
      await sandbox.delete();
      await rm(path, { recursive: true });
    });
    await sandbox.create();
    const memoryLimit = 96 * mebibyte;
    await sandbox.update({ memoryLimit });
    const scope = `cri-containerd-${name}.scope`;
    await waitFor('the scope', async () => (await unit(scope, 'ActiveState')).ActiveState === 'active');
    assert.deepEqual(await unit(scope, 'MemoryMax'), { MemoryMax: String(memoryLimit) });
    assert.equal(setting(`${sliceFolder}/${scope}`, 'memory.max'), String(memoryLimit));
  });

  test('pods that are removed as soon as they are made leave nothing', async () => {
    const { cri, containerd } = node;
    const before = await quietFootprint(containerd, 0);
    const parts = ['sandbox', 'container'] as const;
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        parts.map(async (part) => {
          const name = `brief-${part}-${round}`;
          const pod = { name, runtimeHandler: 'spin-v2', cgroupParent: slice };
          const id = await containerd.runPod(pod);
          if (part === 'container') await cri.createContainer(id, { image: node.image('hello') });
          await cri.stopPod(id);
          await cri.removePod(id);
        }),
      );
    }
    await waitFor('what there was before', async () => {
      assert.deepEqual(await quietFootprint(containerd, 0), before);
      assert.deepEqual(scopesLeft(), []);
      assert.equal(await scopeUnits(), '');
      return true;
    });
  });

  test('a command runs in the engine, and its exit code is told', async () => {
    const pod = await start('exec', 'hello', {});
    const command = ['/bin/sh', '-c', 'echo here; exit 5'];
    const { exitCode, stdout } = await node.cri.execSync(pod.containerId, command, 100);
    assert.deepEqual([exitCode, stdout.toString()], [5, 'here\n']);
    await pod.remove();
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
    assert.equal(await scopeUnits(), '');
  });
});
