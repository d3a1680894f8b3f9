// Runs in the machine of `make node-vm` only: Debian's kernel has AppArmor, and containerd gives every container a profile.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { ContainerInput } from '../support/cri.ts';
import type { Pod } from '../support/pod.ts';
import { SpinNode } from '../support/spin-node.ts';
import { suiteTimeoutMs } from '../support/wait.ts';

/** Lets an engine do everything but write the files that stores of keys and values are. */
const withoutStores = `#include <tunables/global>
profile spin-without-stores flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  signal,
  deny /**.db* w,
}
`;

/** Distinct profiles of a process's threads. */
function profilesOf(pid: number): readonly string[] {
  const tasks = `/proc/${pid}/task`;
  const read = (thread: string): string =>
    readFileSync(`${tasks}/${thread}/attr/apparmor/current`, 'utf8').trim();
  return [...new Set(readdirSync(tasks).map(read))];
}

describe('AppArmor', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;

  before(async () => {
    assert.match(readFileSync('/sys/module/apparmor/parameters/enabled', 'utf8'), /^Y/);
    execFileSync('apparmor_parser', ['--replace', '--skip-cache'], { input: withoutStores });
    node = await SpinNode.start(['js-api']);
  });
  after(() => node.stop());

  function start(name: string, container: Partial<ContainerInput>): Promise<Pod> {
    return node.run({ name, image: node.image('js-api'), container });
  }

  test('the profile that containerd gives every container is on every thread, and leaves an engine all it needs', async () => {
    for (const [name, container] of [
      ['default-root', {}],
      ['default-user', { runAsUser: 1000, seccomp: 'RuntimeDefault' }],
    ] as const) {
      const pod = await start(name, container);
      assert.deepEqual(profilesOf(await pod.pid()), ['cri-containerd.apparmor.d (enforce)']);
      assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
      const { exitCode, stdout } = await node.cri.execSync(pod.containerId, ['kv', 'get', 'colour']);
      assert.deepEqual([exitCode, String(stdout).trim()], [0, 'green']);
      assert.deepEqual(profilesOf(await pod.pid()), ['cri-containerd.apparmor.d (enforce)']);
      await pod.stop(60);
      assert.equal((await pod.status()).exit_code, 0);
      await pod.remove();
    }
  });

  test('a profile of the node refuses what it refuses', async () => {
    const pod = await start('without-stores', { apparmor: { localhost: 'spin-without-stores' } });
    assert.deepEqual(profilesOf(await pod.pid()), ['spin-without-stores (enforce)']);
    assert.equal((await pod.request('/nothing')).status, 404);
    assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 500);
    await pod.remove();
  });

  test('a container that is to be unconfined is', async () => {
    const pod = await start('unconfined', { apparmor: 'Unconfined' });
    assert.deepEqual(profilesOf(await pod.pid()), ['unconfined']);
    await pod.remove();
  });
});
