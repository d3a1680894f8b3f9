import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { cgroupFolders } from './support/cgroups.ts';
import { PrivateContainerd } from './support/containerd.ts';
import type { EventStream } from './support/ctr.ts';
import { mountsUnder } from './support/mounts.ts';
import { shimUnderTest } from './support/shim.ts';
import {
  containerEnd,
  importMixedImages,
  linuxShims,
  linuxSocket,
  mixedImages,
  runcContainers,
  startContainer,
  startSidecar,
} from './support/sidecar.ts';
import { waitFor } from './support/wait.ts';

describe('a mixed pod when something dies', { timeout: 240_000 }, () => {
  let containerd: PrivateContainerd;
  let count = 0;
  let podId: string;
  let app: string;
  let sidecar: string;

  const pidOf = async (id: string): Promise<number> => {
    const { info = '{}' } = await containerd.cri.verboseStatus(id);
    return (JSON.parse(info) as { pid: number }).pid;
  };
  const fetchFromApp = async (): Promise<string> => {
    const { stdout } = await containerd.cri.execSync(sidecar, ['/bin/sidecar', 'fetch', '80', '/']);
    return stdout.toString().trim();
  };
  const bundleOf = (id: string): string =>
    join(containerd.state, 'io.containerd.runtime.v2.task', 'k8s.io', id);
  const gone = (pid: number): boolean => !existsSync(`/proc/${pid}`);

  before(async () => {
    containerd = await PrivateContainerd.start(shimUnderTest().containerd);
    await importMixedImages(containerd);
  });

  beforeEach(async () => {
    podId = await containerd.runPod({ name: `mixed-${count++}`, runtimeHandler: 'spin-v2' });
    sidecar = await startSidecar(containerd, podId, 'sidecar', ['wait']);
    app = await startContainer(containerd, podId, { name: 'app', image: mixedImages.app });
  });

  after(async () => {
    const report = await containerd.cleanup();
    assert.deepEqual(report, { killed: [], unmounted: [], failures: [] });
  });

  test('containerd is restarted', async () => {
    const [hosts, shims] = [containerd.hostPids(), linuxShims(containerd)];
    await containerd.kill('SIGKILL');
    await containerd.restart();
    assert.deepEqual([containerd.hostPids(), linuxShims(containerd)], [hosts, shims]);
    for (const id of [sidecar, app])
      assert.equal((await containerd.cri.status(id)).state, 'CONTAINER_RUNNING');
    assert.equal(await fetchFromApp(), 'Hello from Spin!');
    assert.ok(((await containerd.cri.stats(sidecar)).memory?.working_set_bytes?.value ?? 0) > 0);
    await containerd.cri.stop(sidecar, 5);
    assert.equal((await containerd.cri.status(sidecar)).exit_code, 0);
    const socket = existsSync(join(bundleOf(sidecar), 'runc-address'));
    assert.ok(!socket, 'nothing is journaled of what has ended');
    await containerd.cri.stopPod(podId);
    await containerd.cri.removePod(podId);
    assert.deepEqual(linuxShims(containerd), []);
  });

  test('containerd is away while a sidecar ends', async () => {
    const pid = await pidOf(sidecar);
    await containerd.stop();
    process.kill(pid, 'SIGTERM');
    await waitFor('the sidecar to end', () => gone(pid));
    await containerd.restart();
    assert.equal((await containerEnd(containerd, sidecar)).exit_code, 0);
    assert.equal((await containerd.cri.status(app)).state, 'CONTAINER_RUNNING');
  });

  test('the Linux shim is killed', async () => {
    const events: EventStream = await containerd.ctr().events();
    const socket = linuxSocket(containerd, sidecar);
    const pid = await pidOf(sidecar);
    const [shim = 0] = linuxShims(containerd);
    process.kill(shim, 'SIGKILL');
    const { exit_code } = await containerEnd(containerd, sidecar);
    assert.equal(exit_code, 137);
    await waitFor('the container to end with it', () => gone(pid));
    await waitFor('the socket to go', () => !existsSync(socket));
    assert.ok(!runcContainers().includes(sidecar));
    await events.waitFor(
      ({ topic, payload }) => topic === '/tasks/delete' && payload.container_id === sidecar,
    );
    // Earlier events may come late: they wait while containerd is away, as in the test before.
    const topics = events.all
      .filter(({ payload }) => payload.container_id === sidecar)
      .map(({ topic }) => topic)
      .filter((topic) => topic !== '/tasks/create' && topic !== '/tasks/start');
    assert.deepEqual(topics, ['/tasks/exit', '/tasks/delete']);
    await events.stop();
    assert.equal((await containerd.cri.status(app)).state, 'CONTAINER_RUNNING');
    sidecar = await startSidecar(containerd, podId, 'sidecar', ['wait'], { attempt: 1 });
    assert.equal(await fetchFromApp(), 'Hello from Spin!');
  });

  test('the host is killed', async () => {
    const socket = linuxSocket(containerd, sidecar);
    const pids = [await pidOf(sidecar), await pidOf(app), ...linuxShims(containerd)];
    for (const host of containerd.hostPids()) process.kill(host, 'SIGKILL');
    for (const id of [sidecar, app]) assert.equal((await containerEnd(containerd, id)).exit_code, 255);
    await waitFor('every process to end', () => pids.every(gone));
    await waitFor('the socket to go', () => !existsSync(socket));
    await waitFor('the bundles to go', () => ![sidecar, app].some((id) => existsSync(bundleOf(id))));
    assert.ok(!runcContainers().includes(sidecar));
    assert.deepEqual(
      mountsUnder(containerd.state).filter((point) => point.includes(sidecar) || point.includes(app)),
      [],
    );
    assert.ok(!cgroupFolders(containerd.cgroupParent).some((folder) => folder.endsWith(sidecar)));
    const next = await containerd.runPod({ name: `after-${count}`, runtimeHandler: 'spin-v2' });
    const again = await startSidecar(containerd, next, 'sidecar', ['exit', '0']);
    assert.equal((await containerEnd(containerd, again)).exit_code, 0);
  });
});
