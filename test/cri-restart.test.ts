import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { type Footprint, quietFootprint } from './support/footprint.ts';
import { commandOf } from './support/machine-state.ts';
import { SpinNode } from './support/spin-node.ts';
import { waitFor } from './support/wait.ts';

describe('when containerd or the shim host goes away', { timeout: 120_000 }, () => {
  let node: SpinNode;

  before(async () => {
    node = await SpinNode.start(['hello', 'rust-http']);
  });
  afterEach(() => node.removePods());
  after(() => node.stop());

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`pods live on while containerd is gone after ${signal}, and are its own again afterwards`, async () => {
      const pod = await node.run({ name: `alive-${signal.toLowerCase()}`, image: node.image('rust-http') });
      const [pid, host] = [await pod.pid(), node.hostPid()];
      await node.containerd.kill(signal);
      for (let request = 0; request < 5; request++) assert.equal((await pod.request('/')).status, 200);
      await node.containerd.restart();
      assert.equal((await pod.status()).state, 'CONTAINER_RUNNING');
      assert.equal((await node.cri.podStatus(pod.id)).state, 'SANDBOX_READY');
      assert.equal(await pod.pid(), pid);
      assert.equal(node.hostPid(), host);
      assert.equal((await pod.request('/log?after')).status, 200);
      await pod.waitForLog('stdout', 'out after');
      assert.ok((await node.cri.stats(pod.containerId)).memory?.working_set_bytes?.value);
      await pod.stop(10);
      assert.equal((await pod.status()).exit_code, 0);
      await pod.restart();
      assert.equal((await pod.request('/')).status, 200);
    });
  }

  test('a container that ends while containerd is gone has its exit code afterwards', async () => {
    const pod = await node.run({ name: 'meanwhile', image: node.image('hello') });
    const pid = await pod.pid();
    await node.containerd.kill('SIGKILL');
    process.kill(pid, 'SIGTERM');
    await waitFor('the engine to end', () => !existsSync(`/proc/${pid}`));
    await node.containerd.restart();
    const status = await pod.ended();
    assert.equal(status.exit_code, 0);
    await pod.restart();
    assert.equal((await pod.request('/')).status, 200);
  });

  test('a new pod starts right after containerd came back', async () => {
    const first = await node.run({ name: 'early', image: node.image('hello') });
    await node.containerd.restart();
    const second = await node.run({ name: 'late', image: node.image('hello') });
    assert.equal((await first.request('/')).status, 200);
    assert.equal((await second.request('/')).status, 200);
  });

  test('containerd cleans up after a host that was killed, and new pods start', async () => {
    const pods = [
      await node.run({ name: 'victim-1', image: node.image('hello') }),
      // Its state is mounted at a second place, for a user that containerd's folders are closed to.
      await node.run({
        name: 'victim-2',
        image: node.image('rust-http'),
        container: { runAsUser: 1000 },
      }),
    ];
    const host = node.hostPid();
    const engines = await Promise.all(pods.map((pod) => pod.pid()));
    process.kill(host, 'SIGKILL');
    for (const pod of pods) {
      const { exit_code } = await pod.ended();
      // From the launcher's `delete`, or containerd's own word for a shim that is gone: whichever CRI hears first.
      assert.ok(exit_code === 137 || exit_code === 255, `exit code ${exit_code}`);
      await waitFor('CRI to call the pod dead', async () => {
        return (await node.cri.podStatus(pod.id)).state === 'SANDBOX_NOTREADY';
      });
    }
    await waitFor('the engines to end', () =>
      engines.every((pid) => !commandOf(String(pid)).includes('engine')),
    );
    const fresh = await node.run({ name: 'fresh', image: node.image('hello') });
    assert.equal((await fresh.request('/')).status, 200);
    assert.notEqual(node.hostPid(), host);
    await node.removePods([fresh]);
    const afterKill: Footprint = await quietFootprint(node.containerd, 1);
    assert.deepEqual(
      afterKill.bundles.slice().sort(),
      [fresh.id, fresh.containerId].sort(),
      'bundles of the dead pods are gone',
    );
    assert.equal(afterKill.networkLinks.length, 1);
    assert.equal(afterKill.cgroups.filter((path) => path !== '').length, 2);
    assert.equal(afterKill.mounts.filter((point) => point.endsWith('/rootfs')).length, 1);
  });

  test('pods whose host was killed while containerd was gone are dead afterwards', async () => {
    const pod = await node.run({
      name: 'both',
      image: node.image('hello'),
      container: { runAsUser: 1000 },
    });
    const host = node.hostPid();
    await node.containerd.kill('SIGKILL');
    process.kill(host, 'SIGKILL');
    await node.containerd.restart();
    assert.notEqual((await pod.status()).state, 'CONTAINER_RUNNING');
    assert.equal((await node.cri.podStatus(pod.id)).state, 'SANDBOX_NOTREADY');
    await node.removePods();
    const fresh = await node.run({ name: 'both-fresh', image: node.image('hello') });
    assert.equal((await fresh.request('/')).status, 200);
    await node.removePods([fresh]);
    assert.equal((await quietFootprint(node.containerd, 1)).bundles.length, 2);
  });
});
