// Runs in the machine of `make node-vm` only, booted with SELinux: Debian's policy, with what container-selinux has besides.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ContainerInput, SelinuxOptions } from '../support/cri.ts';
import type { Pod } from '../support/pod.ts';
import { SpinNode } from '../support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from '../support/wait.ts';
import { prepareApps } from './prepare-apps.ts';

const enforce = '/sys/fs/selinux/enforce';
/** Volumes. */
const folder = '/var/lib/spinshim-selinux';

const run = (command: string, ...args: readonly string[]): string =>
  execFileSync(command, args, { encoding: 'utf8' });

function label(path: string, type: string): void {
  run('chcon', `system_u:object_r:${type}:s0`, path);
}

/** Distinct labels of a process's threads. */
function labelsOf(pid: number): readonly string[] {
  const tasks = `/proc/${pid}/task`;
  const read = (thread: string): string =>
    readFileSync(`${tasks}/${thread}/attr/current`, 'utf8').replace(/\0|\n/g, '');
  return [...new Set(readdirSync(tasks).map(read))];
}

/** What the kernel has refused to containers, or would have where it only told of it. */
function denials(): readonly string[] {
  const lines = run('dmesg').split('\n');
  return lines.filter((line) => /avc: +denied .* scontext=\S*:container_t:/.test(line));
}

describe('SELinux', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;

  before(async () => {
    assert.match(readFileSync('/proc/self/attr/current', 'utf8'), /^system_u:system_r:initrc_t:/);
    // Every refusal is to be seen.
    run('sysctl', '-q', '-w', 'kernel.printk_ratelimit=0');
    mkdirSync(folder);
    node = await SpinNode.start(['rust-http', 'js-api'], { selinux: true });
    // As deploy/README.md has the store labelled; what is made in it takes that over.
    mkdirSync(node.containerd.shimStateDir, { recursive: true });
    run('chcon', '--recursive', 'system_u:object_r:container_ro_file_t:s0', node.containerd.shimStateDir);
    await prepareApps(node, ['rust-http', 'js-api']);
    writeFileSync(enforce, '1');
  });
  after(async () => {
    writeFileSync(enforce, '0');
    await node?.stop();
  });

  const containerOf = (level: string): SelinuxOptions => ({
    user: 'system_u',
    role: 'system_r',
    type: 'container_t',
    level,
  });

  function start(
    name: string,
    app: 'rust-http' | 'js-api',
    container: Partial<ContainerInput>,
  ): Promise<Pod> {
    return node.run({ name, image: node.image(app), container });
  }

  test('the label of the pod is on every thread of an engine, which serves, keeps, logs, runs a command and drains with it', async () => {
    for (const [name, more] of [
      ['root', {}],
      ['user', { runAsUser: 1000 }],
    ] as const) {
      const pod = await start(name, 'js-api', { selinux: containerOf('s0:c10,c20'), ...more });
      const expected = ['system_u:system_r:container_t:s0:c10,c20'];
      assert.deepEqual(labelsOf(await pod.pid()), expected);
      assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
      const { exitCode, stdout } = await node.cri.execSync(pod.containerId, ['kv', 'get', 'colour']);
      assert.deepEqual([exitCode, String(stdout).trim()], [0, 'green']);
      assert.deepEqual(labelsOf(await pod.pid()), expected);
      await pod.stop(60);
      assert.equal((await pod.status()).exit_code, 0);
      await pod.remove();
    }
  });

  test('a container of a pod without a label has one of its own', async () => {
    const pod = await start('own', 'rust-http', {});
    const [own, ...others] = labelsOf(await pod.pid());
    assert.match(own ?? '', /^system_u:system_r:container_t:s0:c\d+,c\d+$/);
    assert.deepEqual(others, []);
    await pod.remove();
  });

  test('volumes: what is labelled for the container is read and written, what is not is refused', async () => {
    const [given, other] = ['given', 'other'].map((name) => join(folder, name)) as [string, string];
    for (const path of [given, other]) {
      mkdirSync(path);
      label(path, 'var_log_t');
      writeFileSync(join(path, 'note'), 'seen');
      label(join(path, 'note'), 'var_log_t');
    }
    const annotations = { 'spin.shim/files': 'rust-http:/given:rw, rust-http:/other:rw' };
    const pod = await node.run({
      name: 'volumes',
      image: node.image('rust-http'),
      pod: { annotations },
      container: {
        selinux: containerOf('s0:c1,c2'),
        mounts: [
          { hostPath: given, containerPath: '/given', relabel: true },
          { hostPath: other, containerPath: '/other' },
        ],
      },
    });
    assert.equal((await pod.request('/file/given/note')).text, 'seen');
    const written = await pod.request('/write/given/new', { method: 'POST', body: 'written' });
    assert.deepEqual([written.status, readFileSync(join(given, 'new'), 'utf8')], [200, 'written']);
    assert.equal((await pod.request('/file/static/note.txt')).status, 200);
    assert.equal((await pod.request('/file/other/note')).status, 404);
    assert.equal((await pod.request('/write/other/new', { method: 'POST', body: 'x' })).status, 403);
    assert.equal((await pod.request('/log?seen')).text, 'logged\n');
    await waitFor('the log', async () => /out seen/.test(await pod.log()));
    await pod.remove();
  });

  test('a label that the policy does not have is told', async () => {
    const selinux = { ...containerOf('s0'), type: 'nobody_has_this_t' };
    await assert.rejects(
      start('unknown', 'rust-http', { selinux }),
      /"system_u:system_r:nobody_has_this_t:s0", which is not in this node's policy/,
    );
    await node.removePods();
  });

  test('nothing else was refused', () => {
    assert.deepEqual(
      denials().filter((line) => !/path="[^"]*\/other|name="(?:note|other)"/.test(line)),
      [],
    );
  });
});
