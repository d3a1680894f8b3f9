import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupFolders } from './support/cgroups.ts';
import { PrivateContainerd } from './support/containerd.ts';
import { CriError } from './support/cri.ts';
import { CtrError } from './support/ctr.ts';
import { httpGet } from './support/http-get.ts';
import { buildImage, httpImage, importImage, indexOf, pushImage } from './support/images.ts';
import { commandOf, machineState } from './support/machine-state.ts';
import { PrivateRegistry } from './support/registry.ts';
import { freeSubnet } from './support/subnet.ts';
import { waitFor } from './support/wait.ts';

describe('a private containerd with runc', { timeout: 120_000 }, () => {
  let untouched: ReturnType<typeof machineState>;
  let containerd: PrivateContainerd;
  let podId: string;
  let containerId: string;
  const httpName = 'spinshim.test/http:1';

  before(async () => {
    untouched = machineState();
    containerd = await PrivateContainerd.start();
    await importImage(containerd, await httpImage(), httpName);
  });

  after(async () => {
    const report = await containerd.cleanup();
    assert.deepEqual(report.failures, []);
    assert.deepEqual(report.killed, []);
    assert.deepEqual(machineState(), untouched);
  });

  test('answers Version and is a containerd', async () => {
    const version = await containerd.cri.version();
    assert.equal(version.runtime_name, 'containerd');
  });

  test('runs a pod that answers on its own address', async () => {
    podId = await containerd.runPod({ name: 'web', runtimeHandler: 'runc' });
    containerId = await containerd.cri.createContainer(podId, { image: httpName, envs: { PORT: '8080' } });
    assert.equal((await containerd.cri.status(containerId)).state, 'CONTAINER_CREATED');
    await containerd.cri.start(containerId);
    const ip = await containerd.cri.podIp(podId);
    const answer = await waitFor('the pod to answer', () => httpGet(`http://${ip}:8080/`));
    assert.equal(answer.status, 200);
    assert.equal(answer.text, 'hello\n');
  });

  test('shows its log, its stats and its cgroup', async () => {
    const line = await waitFor(
      'a log line',
      () => /^\S+ stdout F (.*)$/m.exec(containerd.containerLog('web'))?.[1],
    );
    assert.equal(line, 'listening');
    const stats = await containerd.cri.stats(containerId);
    assert.equal(stats.attributes.id, containerId);
    assert.ok((stats.memory?.working_set_bytes?.value ?? 0) > 0);
    assert.ok((await containerd.cri.listStats(podId)).length === 1);
    assert.ok(cgroupFolders(containerd.cgroupParent).some((folder) => folder.endsWith(containerId)));
  });

  test('runs a command in the container and changes its limits', async () => {
    const result = await containerd.cri.execSync(containerId, ['/http']);
    assert.equal(result.exitCode, 1);
    assert.match(result.stderr.toString(), /Address already in use/);
    await containerd.cri.updateResources(containerId, { memoryLimit: 64 * 1024 * 1024 });
    const limits = cgroupFolders(containerd.cgroupParent)
      .filter((folder) => folder.endsWith(containerId))
      .flatMap((folder) => [join(folder, 'memory.limit_in_bytes'), join(folder, 'memory.max')])
      .filter((file) => existsSync(file))
      .map((file) => readFileSync(file, 'utf8').trim());
    assert.deepEqual(limits, ['67108864']);
  });

  test('passes an error on with its code and text', async () => {
    await assert.rejects(containerd.cri.status('no-such-container'), (error) => {
      assert.ok(error instanceof CriError);
      assert.equal(error.code, 5);
      assert.match(error.details, /no-such-container/);
      return true;
    });
    await assert.rejects(containerd.ctr().exec(['task', 'kill', 'no-such-task']), (error) => {
      assert.ok(error instanceof CtrError);
      assert.match(error.stderr, /not found/);
      return true;
    });
  });

  test('keeps the pod over a restart, orderly or not', async () => {
    const ip = await containerd.cri.podIp(podId);
    await containerd.restart();
    assert.equal((await containerd.cri.status(containerId)).state, 'CONTAINER_RUNNING');
    await containerd.kill('SIGKILL');
    assert.equal((await httpGet(`http://${ip}:8080/`)).status, 200);
    await containerd.restart();
    assert.equal((await containerd.cri.podStatus(podId)).state, 'SANDBOX_READY');
    assert.equal((await containerd.cri.status(containerId)).state, 'CONTAINER_RUNNING');
  });

  test('collects events in order while a container stops', async () => {
    const events = await containerd.ctr().events();
    try {
      await containerd.cri.stop(containerId, 5);
      await events.waitFor(
        (event) => event.topic === '/tasks/delete' && event.payload.container_id === containerId,
      );
      const topics = events.all
        .filter((event) => event.payload.container_id === containerId)
        .map((event) => event.topic);
      assert.deepEqual(topics, ['/tasks/exit', '/tasks/delete']);
    } finally {
      await events.stop();
    }
    const status = await containerd.cri.status(containerId);
    assert.equal(status.state, 'CONTAINER_EXITED');
    assert.equal(status.exit_code, 0);
  });

  test('runs a container by ctr in another namespace', async () => {
    const image = await buildImage({
      files: new Map([['http', { content: (await httpImage()).target.digest }]]),
      entrypoint: ['/missing'],
    });
    await importImage(containerd, image, 'spinshim.test/broken:1', { namespace: 'default' });
    const ctr = containerd.ctr('default');
    await assert.rejects(
      ctr.run({ image: 'spinshim.test/broken:1', id: 'broken', runtime: 'io.containerd.runc.v2' }),
      /no such file/,
    );
  });

  test('removes the container and the pod', async () => {
    await containerd.cri.remove(containerId);
    await containerd.cri.stopPod(podId);
    await containerd.cri.removePod(podId);
    assert.deepEqual(await containerd.cri.listPods(), []);
  });

  test('pulls from a private registry, single manifest and index', async () => {
    const registry = await PrivateRegistry.start();
    try {
      await containerd.allowRegistry(registry.host);
      const image = await httpImage();
      const single = await pushImage(registry, image, 'team/http', 'single');
      const indexed = await pushImage(registry, indexOf([image]), 'team/http', 'indexed');
      const id = await containerd.cri.pull(single);
      assert.equal(await containerd.cri.pull(indexed), id);
      assert.ok((await containerd.cri.imageStatus(single))?.repo_tags.includes(single));
      assert.ok(existsSync(join(registry.storage, 'docker/registry/v2/repositories/team/http')));
    } finally {
      await registry.stop();
    }
  });

  test('leaves a running pod to cleanup', async () => {
    const pod = await containerd.runPod({ name: 'left', runtimeHandler: 'runc' });
    const left = await containerd.cri.createContainer(pod, { image: httpName });
    await containerd.cri.start(left);
    assert.equal((await containerd.cri.listContainers(pod))[0]?.state, 'CONTAINER_RUNNING');
  });
});

describe('a shim from a folder of the test', { timeout: 60_000 }, () => {
  test('serves the handler spin-v2 and inherits its own run directory', async () => {
    const untouched = machineState();
    const shimDir = await mkdtemp(join(tmpdir(), 'shim-dir-'));
    // A stand-in that notes the call, leaves a host behind as the launcher does, and lets the runc shim do the work.
    const script = [
      '#!/bin/sh',
      'echo "$@" >> "$SPINSHIM_RUN_DIR/calls"',
      'if [ ! -e "$SPINSHIM_RUN_DIR/host.pid" ]; then',
      '  env -i sleep 600 </dev/null >/dev/null 2>&1 &',
      '  echo $! > "$SPINSHIM_RUN_DIR/host.pid"',
      'fi',
      'exec containerd-shim-runc-v2 "$@"',
      '',
    ];
    await writeFile(join(shimDir, 'containerd-shim-spin-v2'), script.join('\n'), { mode: 0o755 });
    const containerd = await PrivateContainerd.start({ shimDir });
    let host: number | undefined;
    try {
      const pod = await containerd.runPod({ name: 'spin', runtimeHandler: 'spin-v2' });
      assert.equal((await containerd.cri.podStatus(pod)).runtime_handler, 'spin-v2');
      assert.match(readFileSync(join(containerd.runDir, 'calls'), 'utf8'), new RegExp(`-id ${pod} start`));
      [host] = containerd.hostPids();
      assert.ok(host !== undefined && existsSync(`/proc/${host}`));
    } finally {
      const report = await containerd.cleanup();
      await rm(shimDir, { recursive: true });
      assert.deepEqual(report.failures, []);
    }
    assert.ok(!isStandIn(host), 'the host left behind was ended');
    assert.deepEqual(machineState(), untouched);
  });
});

/** Whether a pid still is the stand-in host. */
function isStandIn(pid: number | undefined): boolean {
  return pid !== undefined && commandOf(String(pid)).startsWith('sleep 600');
}

describe('cleanup by force', { timeout: 60_000 }, () => {
  test('removes pods of a containerd that was killed', async () => {
    const state = machineState();
    const containerd = await PrivateContainerd.start();
    let report: Awaited<ReturnType<PrivateContainerd['cleanup']>>;
    try {
      await containerd.runPod({ name: 'orphan', runtimeHandler: 'runc' });
      await containerd.kill('SIGKILL');
    } finally {
      report = await containerd.cleanup();
    }
    assert.ok(report.killed.length >= 2, 'the shim and the pause process were there to kill');
    assert.ok(report.unmounted.length >= 2, 'the network namespace and the rootfs were there to unmount');
    assert.deepEqual(machineState(), state);
  });

  test('says why a containerd did not start', async () => {
    const state = machineState();
    await assert.rejects(PrivateContainerd.start({ configExtra: 'not toml' }), /did not start[\s\S]*toml/);
    assert.deepEqual(machineState(), state);
  });
});

describe('a free subnet', () => {
  test('keeps away from every route', () => {
    const header = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n';
    assert.match(
      freeSubnet(`${header}eth0\t00000000\t010200C0\t3\t0\t0\t0\t00000000\n`),
      /^10\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.0\/20$/,
    );
    assert.throws(
      () => freeSubnet(`${header}eth0\t0000000A\t00000000\t1\t0\t0\t0\t000000FF\n`),
      /no free subnet/,
    );
  });
});

test('waitFor tells what it waited for and the last error', async () => {
  await assert.rejects(
    waitFor('rain', () => Promise.reject(new Error('dry')), { timeoutMs: 1, intervalMs: 1 }),
    /in vain for rain; last error: Error: dry/,
  );
  assert.equal(await waitFor('zero', () => 0), 0);
});
