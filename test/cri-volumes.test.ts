import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeFifo } from '../src/linux.ts';
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

  test('single files are seen where they are granted, read-only unless both sides say otherwise', async () => {
    const config = join(folder, 'single');
    const outside = join(folder, 'outside');
    await mkdir(config);
    await mkdir(outside);
    await project(config, '..2026_1', { 'app.toml': 'first', 'other.toml': 'not granted' });
    const [note, fixed] = [join(outside, 'note'), join(outside, 'fixed')];
    for (const path of [note, fixed]) {
      await writeFile(path, 'before');
      await chown(path, 1000, 1000);
    }
    const grants = [
      // A key of a ConfigMap that is mounted as a folder, one by subPath, and files that the pod may write.
      'rust-http:/etc/config/app.toml',
      'rust-http:/conf/app.toml:/etc/config/by-sub-path.toml',
      'rust-http:/work/note:rw',
      'rust-http:/work/fixed',
    ];
    const pod = await node.run({
      name: 'single-files',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/files': grants.join(', ') } },
      container: {
        runAsUser: 1000,
        mounts: [
          { hostPath: config, containerPath: '/etc/config', readonly: true },
          { hostPath: join(config, '..data', 'app.toml'), containerPath: '/conf/app.toml', readonly: true },
          { hostPath: note, containerPath: '/work/note' },
          { hostPath: fixed, containerPath: '/work/fixed' },
        ],
      },
    });
    const write = async (path: string): Promise<number> =>
      (await pod.request(`/write/${path}`, { method: 'POST', body: 'written' })).status;
    for (const name of ['app.toml', 'by-sub-path.toml'])
      assert.equal((await pod.request(`/file/etc/config/${name}`)).text, 'first', name);
    assert.notEqual((await pod.request('/file/etc/config/other.toml')).status, 200);
    assert.deepEqual(
      [
        await write('work/note'),
        await write('work/fixed'),
        await write('work/new'),
        await write('etc/config/app.toml'),
      ],
      [200, 403, 403, 403],
    );
    assert.deepEqual([await readFile(note, 'utf8'), await readFile(fixed, 'utf8')], ['written', 'before']);
    await pod.remove();
    assert.deepEqual([await readFile(note, 'utf8'), await readFile(fixed, 'utf8')], ['written', 'before']);
  });

  test('root in a container writes no more than the file that it is granted', async () => {
    const note = join(folder, 'root-note');
    await writeFile(note, 'before');
    const pod = await node.run({
      name: 'root-file',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/files': 'rust-http:/work/note:rw' } },
      container: { mounts: [{ hostPath: note, containerPath: '/work/note' }] },
    });
    for (const [path, status] of [
      ['work/note', 200],
      ['work/new', 403],
    ] as const)
      assert.equal((await pod.request(`/write/${path}`, { method: 'POST', body: 'written' })).status, status);
    await pod.remove();
  });

  test('a file that a link leads to outside of its volume is not granted, nor what is no file', async () => {
    const tricks = join(folder, 'tricks');
    await mkdir(tricks);
    await symlink('/etc/passwd', join(tricks, 'absolute'));
    await symlink('../outside/note', join(tricks, 'upwards'));
    makeFifo(join(tricks, 'pipe'), 0o600);
    for (const [name, reason] of [
      ['absolute', /"absolute" of the volume .* cannot be opened: EXDEV/],
      ['upwards', /"upwards" of the volume .* cannot be opened: EXDEV/],
      ['missing', /"missing" of the volume .* cannot be opened: ENOENT/],
      ['pipe', /neither a folder nor a regular file/],
      ['', /the file "\/static\/x" is seen in a folder of its own, .* has one at "\/static" already/],
    ] as const) {
      const [path, place] = name === '' ? ['/file', ':/static/x'] : [`/tricks/${name}`, ''];
      const pod = await node.create({
        name: `trick-${name}`,
        image: node.image('rust-http'),
        pod: { annotations: { 'spin.shim/files': `rust-http:${path}${place}` } },
        container: {
          mounts: [
            { hostPath: tricks, containerPath: '/tricks' },
            { hostPath: join(folder, 'outside', 'note'), containerPath: '/file' },
          ],
        },
      });
      await assert.rejects(pod.start(), reason);
      await pod.remove();
    }
  });

  test('an annotation of ours that is none is told in the log', async () => {
    const pod = await node.run({
      name: 'unknown-annotation',
      image: node.image('rust-http'),
      pod: { annotations: { 'spin.shim/file': 'rust-http:/there' } },
    });
    await pod.waitForLog('stderr', /"spin\.shim\/file" is not known .*did you mean "spin\.shim\/files"\?/);
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
