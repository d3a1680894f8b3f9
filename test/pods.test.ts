import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Footprint, quietFootprint } from './support/footprint.ts';
import { httpGet } from './support/http-get.ts';
import type { Pod } from './support/pod.ts';
import { SpinNode } from './support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from './support/wait.ts';

describe('many pods on one node', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;
  /** With one pod that stays, so that host and pool are up. */
  let atRest: Footprint;
  let resident: Pod;

  before(async () => {
    node = await SpinNode.start(['hello', 'rust-http']);
    resident = await node.run({ name: 'resident', image: node.image('rust-http') });
    await resident.request('/');
    atRest = await quietFootprint(node.containerd, 1);
  });
  after(() => node.stop());

  /** The footprint goes back to what it was with the resident pod alone. */
  async function assertNothingLeft(): Promise<void> {
    await waitFor('the footprint of before', async () => {
      assert.deepEqual(await quietFootprint(node.containerd, 1), atRest);
      return true;
    });
  }

  test('two pods listen on the same port at once', async () => {
    const [first, second] = await Promise.all([
      node.run({ name: 'first', image: node.image('hello') }),
      node.run({ name: 'second', image: node.image('rust-http') }),
    ]);
    assert.notEqual(first.ip, second.ip);
    assert.equal((await first.request('/')).text, 'Hello from Spin!\n');
    assert.equal((await second.request('/hello/two')).text, 'Hello, two, from Rust\n');
    assert.notEqual(await first.pid(), await second.pid());
    await first.remove();
    assert.equal((await second.request('/')).status, 200);
    await second.remove();
    await assertNothingLeft();
  });

  test('twenty pods start, answer and go, and leave nothing', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `pod-${index}`);
    const pods = await Promise.all(names.map((name) => node.run({ name, image: node.image('hello') })));
    assert.equal(new Set(pods.map((pod) => pod.ip)).size, 20);
    const answers = await Promise.all(pods.map((pod) => pod.request('/')));
    assert.ok(answers.every(({ status }) => status === 200));
    assert.equal(node.containerd.hostPids().length, 1, 'one host for all of them');
    await Promise.all(pods.map((pod) => pod.remove()));
    assert.deepEqual(
      (await node.cri.listPods()).map(({ id }) => id),
      [resident.id],
    );
    await assertNothingLeft();
  });

  /** Changes of an entry in its place: one that anybody sees, and one that leaves size and time of writing as they were. */
  const changes: readonly (readonly [name: string, change: (path: string) => void])[] = [
    ['longer', (path) => appendFileSync(path, 'x')],
    [
      'other bytes of the same age',
      (path) => {
        const { atime, mtime } = statSync(path);
        const bytes = readFileSync(path);
        bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
        writeFileSync(path, bytes);
        utimesSync(path, atime, mtime);
      },
    ],
  ];
  for (const [name, change] of changes) {
    test(`a component whose cache entry was changed (${name}) is prepared again for the next pod`, async () => {
      const pod = await node.run({ name: 'before', image: node.image('hello') });
      const components = join(node.containerd.shimStateDir, 'components');
      const entries = readdirSync(components).map((entry) => join(components, entry));
      const whole = entries.map((path) => readFileSync(path));
      for (const path of entries) change(path);
      assert.equal((await pod.request('/')).status, 200, 'one that runs has all it needs');
      await pod.remove();
      const next = await node.run({ name: 'next', image: node.image('hello') });
      assert.equal((await next.request('/')).text, 'Hello from Spin!\n');
      const again = entries.filter((path, index) => whole[index]?.equals(readFileSync(path)));
      assert.equal(again.length, 1, 'that of hello, and no other');
      await next.remove();
      await assertNothingLeft();
    });
  }

  test('a component that an engine of this host has checked is not checked again for the next pod', async () => {
    const key = join(node.containerd.shimStateDir, 'seal.key');
    await (await node.run({ name: 'first', image: node.image('hello') })).remove();
    // Without it no seal could be found right.
    renameSync(key, `${key}.away`);
    try {
      const pod = await node.run({ name: 'second', image: node.image('hello') });
      assert.equal((await pod.request('/')).text, 'Hello from Spin!\n');
      await pod.remove();
      assert.equal(existsSync(key), false, 'nobody has asked for it');
    } finally {
      renameSync(`${key}.away`, key);
    }
    await assertNothingLeft();
  });

  test('a container that comes and goes in a pod leaves nothing', async () => {
    const pod = await node.run({ name: 'again', image: node.image('hello') });
    for (let attempt = 1; attempt <= 3; attempt++) {
      await pod.stop(5);
      await node.cri.remove(pod.containerId);
      await pod.restart();
      assert.equal((await pod.request('/')).status, 200);
    }
    await pod.remove();
    await assertNothingLeft();
  });

  test('containers of one pod share its network and reach each other', async () => {
    const pod = await node.run({ name: 'shared', image: node.image('rust-http') });
    const envs = { SPIN_HTTP_LISTEN_ADDR: '127.0.0.1:8081' };
    const inner = await node.cri.createContainer(pod.id, { name: 'inner', image: node.image('hello'), envs });
    await node.cri.start(inner);
    const answer = await pod.request('/outbound', { method: 'POST', body: 'http 127.0.0.1:8081 /' });
    assert.equal(answer.text, '200 Hello from Spin!\n');
    await assert.rejects(httpGet(`http://${pod.ip}:8081/`), /ECONNREFUSED/);
    await pod.remove();
    await assertNothingLeft();
  });

  test('a guest cannot reach the node through its loopback address', async () => {
    const server = createServer((_, response) => response.end('the node')).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const body = `http 127.0.0.1:${port} /`;
      const answer = await resident.request('/outbound', { method: 'POST', body });
      assert.equal(answer.status, 502, answer.text);
    } finally {
      server.close();
    }
  });

  test('a pod in the network of the node says when its port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const envs = { SPIN_HTTP_LISTEN_ADDR: `127.0.0.1:${port}` };
      const pod = await node.create({
        name: 'host-network',
        image: node.image('hello'),
        pod: { hostNetwork: true },
        container: { envs },
      });
      await assert.rejects(pod.start(), new RegExp(`127\\.0\\.0\\.1:${port}.* in use`));
      await pod.waitForLog('stderr', / in use/);
      await new Promise((resolve) => server.close(resolve));
      await pod.restart();
      assert.equal((await httpGet(`http://127.0.0.1:${port}/`)).text, 'Hello from Spin!\n');
      await pod.remove();
    } finally {
      server.close();
    }
    await assertNothingLeft();
  });

  test('a pod without containers, and one whose container never started', async () => {
    const id = await node.containerd.runPod({ name: 'bare', runtimeHandler: 'spin-v2' });
    assert.equal((await node.cri.podStatus(id)).state, 'SANDBOX_READY');
    await node.cri.stopPod(id);
    assert.equal((await node.cri.podStatus(id)).state, 'SANDBOX_NOTREADY');
    await node.cri.removePod(id);
    const pod = await node.create({ name: 'unstarted', image: node.image('hello') });
    await pod.remove();
    await assertNothingLeft();
  });

  test('a pod that is stopped while its container starts', async () => {
    const pod = await node.create({ name: 'hasty', image: node.image('hello') });
    const started = pod.start().then(
      () => 'started',
      () => 'failed',
    );
    await node.cri.stopPod(pod.id);
    // Until then CRI removes no container.
    assert.match(await started, /started|failed/);
    await pod.remove();
    await assertNothingLeft();
  });

  test('what containers keep on disk goes with them', () => {
    const work = join(node.containerd.root, 'io.containerd.runtime.v2.task', 'k8s.io');
    const kept = existsSync(work) ? readdirSync(work).sort() : [];
    assert.deepEqual(kept, [resident.containerId, resident.id].sort());
  });
});
