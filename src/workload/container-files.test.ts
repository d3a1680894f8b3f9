import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { findContainerFiles } from './container-files.ts';
import { parseSpec } from './spec.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-files-'));
const rootfs = join(folder, 'rootfs');
const target = join(folder, 'files');
after(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  for (const path of [rootfs, target]) {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
  }
});

function find(mounts: readonly object[] = []): ReturnType<typeof findContainerFiles> {
  return findContainerFiles({ path: folder, rootfs, spec: parseSpec(JSON.stringify({ mounts })) }, target);
}

test('a mount wins over the image, the last mount over earlier ones', () => {
  writeFileSync(join(rootfs, 'runtime-config.toml'), 'image');
  const mount = (source: string): object => ({ destination: '/runtime-config.toml', source });
  assert.deepEqual(find([mount('/first'), mount('/second')]), { runtimeConfig: '/second' });
});

test('a file of the image is copied', () => {
  writeFileSync(join(rootfs, 'runtime-config.toml'), 'image');
  const { runtimeConfig } = find();
  assert.equal(runtimeConfig, join(target, 'runtimeConfig'));
  assert.equal(readFileSync(runtimeConfig, 'utf8'), 'image');
});

test('a link of the image that leads to the node is not followed', () => {
  symlinkSync('/etc/passwd', join(rootfs, 'runtime-config.toml'));
  assert.deepEqual(find(), {});
});

test('neither a FIFO nor a folder of the image holds us up', () => {
  execFileSync('mkfifo', [join(rootfs, 'runtime-config.toml')]);
  mkdirSync(join(rootfs, 'etc', 'hosts'), { recursive: true });
  assert.deepEqual(find(), {});
});

test('a huge file of the image is refused', () => {
  writeFileSync(join(rootfs, 'runtime-config.toml'), Buffer.alloc(4 * 1024 * 1024 + 1));
  assert.throws(() => find(), { code: 'invalid-image' });
});
