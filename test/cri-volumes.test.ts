import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SpinNode } from './support/spin-node.ts';

/** A ConfigMap as kubelet lays it out: files are links into a folder that one rename replaces. */
async function project(
  folder: string,
  version: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  await mkdir(join(folder, version));
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, version, name), content);
    await symlink(join('..data', name), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
  await symlink(version, join(folder, '..data_tmp'));
  await rename(join(folder, '..data_tmp'), join(folder, '..data'));
}

describe('volumes of a pod', { timeout: 180_000 }, () => {
  let node: SpinNode;
  let folder: string;

  before(async () => {
    node = await SpinNode.start(['rust-http', 'js-api']);
    // As kubelet's own: nobody but root passes.
    folder = await mkdtemp('/tmp/spinshim-volumes-');
  });
  after(async () => {
    await node.stop();
    await rm(folder, { recursive: true });
  });

  test('a ConfigMap is seen where it is granted, follows its updates, and nothing leads out of it', async () => {
    const config = join(folder, 'config');
    const hidden = join(folder, 'hidden');
    await mkdir(config);
    await mkdir(hidden);
    await project(config, '..2026_1', { greeting: 'first' });
    await writeFile(join(hidden, 'secret'), 'not granted');
    await symlink('/etc/passwd', join(config, 'absolute'));
    await symlink('../hidden/secret', join(config, 'upwards'));
    const pod = await node.run({
      name: 'config-map',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/files': 'rust-http:/etc/config' } },
      container: {
        runAsUser: 1000,
        mounts: [
          { hostPath: config, containerPath: '/etc/config', readonly: true },
          { hostPath: hidden, containerPath: '/etc/hidden', readonly: true },
        ],
      },
    });
    assert.equal((await pod.request('/file/etc/config/greeting')).text, 'first');
    await project(config, '..2026_2', { greeting: 'second' });
    assert.equal((await pod.request('/file/etc/config/greeting')).text, 'second');
    for (const path of ['etc/config/absolute', 'etc/config/upwards', 'etc/hidden/secret', 'etc/passwd'])
      assert.notEqual((await pod.request(`/file/${path}`)).status, 200, path);
    assert.equal((await pod.request('/write/etc/config/new', { method: 'POST', body: 'x' })).status, 403);
    assert.equal((await pod.request('/file/static/note.txt')).status, 200, "the app's own files stay");
    await pod.remove();
  });

  test('a volume that both sides make writable is, for the users that it belongs to', async () => {
    const data = join(folder, 'data');
    const closed = join(folder, 'closed');
    await mkdir(data);
    await chown(data, 0, 2000);
    await chmod(data, 0o2770);
    await mkdir(closed, { mode: 0o700 });
    const pod = await node.run({
      name: 'writable',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/files': 'rust-http:/data:/mine:rw,rust-http:/closed:rw' } },
      container: {
        runAsUser: 1000,
        runAsGroup: 1000,
        supplementalGroups: [2000],
        mounts: [
          { hostPath: data, containerPath: '/data' },
          { hostPath: closed, containerPath: '/closed' },
        ],
      },
    });
    assert.equal((await pod.request('/write/mine/note', { method: 'POST', body: 'written' })).status, 200);
    assert.equal((await pod.request('/file/mine/note')).text, 'written');
    const { uid, gid } = await stat(join(data, 'note'));
    assert.deepEqual([uid, gid], [1000, 2000]);
    assert.equal((await pod.request('/write/closed/note', { method: 'POST', body: 'x' })).status, 403);
    await pod.remove();
  });

  test('root in a container writes to a volume of somebody else, as everywhere', async () => {
    const foreign = join(folder, 'foreign');
    await mkdir(foreign, { mode: 0o700 });
    await chown(foreign, 1234, 1234);
    const pod = await node.run({
      name: 'foreign',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/files': 'rust-http:/foreign:rw' } },
      container: { mounts: [{ hostPath: foreign, containerPath: '/foreign' }] },
    });
    assert.equal((await pod.request('/write/foreign/note', { method: 'POST', body: 'written' })).status, 200);
    await pod.remove();
  });

  test('a grant of what the pod does not have stops the start and says what it has', async () => {
    const pod = await node.create({
      name: 'no-volume',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/files': 'rust-http:/elsewhere' } },
      container: { mounts: [{ hostPath: folder, containerPath: '/there', readonly: true }] },
    });
    await assert.rejects(pod.start(), /spin\.shim\/files.*"\/elsewhere".*it has .*"\/there"/);
    await pod.waitForLog('stderr', /"\/elsewhere"/);
    await pod.remove();
  });

  test('a key-value store on a volume outlives its container', async () => {
    const data = join(folder, 'store');
    await mkdir(data, { mode: 0o700 });
    await chown(data, 1000, 1000);
    const config = join(folder, 'runtime-config.toml');
    await writeFile(config, '[key_value_store.default]\ntype = "spin"\npath = "/mnt/data/kv.db"\n');
    const pod = await node.run({
      name: 'store',
      image: node.image('js-api'),
      container: {
        runAsUser: 1000,
        runAsGroup: 1000,
        mounts: [
          { hostPath: config, containerPath: '/runtime-config.toml', readonly: true },
          { hostPath: data, containerPath: '/mnt/data' },
        ],
      },
    });
    assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
    assert.equal((await stat(join(data, 'kv.db'))).uid, 1000);
    await pod.stop(10);
    await node.cri.remove(pod.containerId);
    await pod.restart();
    assert.equal((await pod.request('/kv/colour')).text, 'green');
    await pod.remove();
  });
});
