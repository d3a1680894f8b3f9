import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { findProgram } from './linux-program.ts';
import { parseSpec } from './spec.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-program-'));
const elf = '\x7fELF rest';
let rootfs = '';
let count = 0;

after(() => rmSync(folder, { recursive: true }));

beforeEach(() => {
  rootfs = join(folder, String(count++));
  mkdirSync(rootfs);
});

function file(path: string, content = elf, mode = 0o755): void {
  const place = join(rootfs, path);
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, content, 'latin1');
  chmodSync(place, mode);
}

function link(path: string, target: string): void {
  const place = join(rootfs, path);
  mkdirSync(dirname(place), { recursive: true });
  symlinkSync(target, place);
}

/** Looks for the program of a container with these arguments and further fields. */
function find(
  args: readonly string[],
  more: { env?: readonly string[]; cwd?: string; mounts?: readonly object[] } = {},
): string | undefined {
  const { mounts = [], ...process } = more;
  const spec = parseSpec(
    JSON.stringify({ process: { args, env: ['PATH=/usr/bin:/bin'], ...process }, mounts }),
  );
  return findProgram({ path: dirname(rootfs), rootfs, spec });
}

test('a path, absolute or relative to the working directory', () => {
  file('app/server');
  assert.equal(find(['/app/server', '-v']), '/app/server');
  assert.equal(find(['./server'], { cwd: '/app' }), '/app/server');
  assert.equal(find(['../../../app/server'], { cwd: '/app' }), '/app/server');
  assert.equal(find(['/app/other']), undefined);
});

test('a bare name is searched on the PATH of the container, in its order', () => {
  file('bin/sh');
  assert.equal(find(['sh']), '/bin/sh');
  file('usr/bin/sh');
  assert.equal(find(['sh']), '/usr/bin/sh');
  assert.equal(find(['sh'], { env: ['PATH=relative::/nowhere'] }), undefined);
  assert.equal(find(['sh'], { env: [] }), undefined);
});

test('only executable ELF files and scripts are programs', () => {
  file('script', '#!/bin/sh\n');
  file('plain', 'spin_manifest_version = 2');
  file('wasm', '\0asm\x01\0\0\0');
  file('locked', elf, 0o644);
  file('short', '\x7f');
  mkdirSync(join(rootfs, 'folder'));
  assert.equal(find(['/script']), '/script');
  for (const name of ['/plain', '/wasm', '/locked', '/short', '/folder', '/', '.', '']) {
    assert.equal(find([name]), undefined, name);
  }
  assert.equal(find([]), undefined);
});

test('symlinks are those of the container', () => {
  file('usr/bin/busybox');
  link('bin', 'usr/bin');
  link('usr/bin/sh', '/bin/busybox');
  link('usr/bin/relative', '../bin/./busybox');
  link('escape', '../../../../../../../../../bin/sh');
  assert.equal(find(['/bin/sh']), '/bin/sh');
  assert.equal(find(['relative']), '/usr/bin/relative');
  assert.equal(find(['/escape']), '/escape', 'the root is its own parent');
  link('node', '/proc/self/exe');
  link('loop', 'loop');
  assert.equal(find(['/node']), undefined, 'a file of the node is none of the container');
  assert.equal(find(['/loop']), undefined);
});

test('the number of symlinks followed is bounded', () => {
  file('end');
  link('0', 'end');
  for (let index = 1; index <= 40; index++) link(String(index), String(index - 1));
  assert.equal(find(['/39']), '/39');
  assert.equal(find(['/40']), undefined);
});

test('volumes cover what the image has', () => {
  const volume = `${rootfs}-volume`;
  mkdirSync(join(volume, 'bin'), { recursive: true });
  writeFileSync(join(volume, 'bin/tool'), elf, { encoding: 'latin1', mode: 0o755 });
  symlinkSync('/tools/bin/tool', join(volume, 'linked'));
  file('tools/hidden');
  const bind = { destination: '/tools', type: 'bind', source: volume, options: ['rbind'] };
  const single = { destination: '/one', type: 'bind', source: join(volume, 'bin/tool'), options: ['bind'] };
  const mounts = [bind, single, { destination: '/proc', type: 'proc', source: 'proc' }];
  assert.equal(find(['/tools/bin/tool'], { mounts }), '/tools/bin/tool');
  assert.equal(find(['/tools/linked'], { mounts }), '/tools/linked');
  assert.equal(find(['/one'], { mounts }), '/one');
  assert.equal(find(['/tools/hidden'], { mounts }), undefined);
  assert.equal(find(['/tools/hidden']), '/tools/hidden');
});

test('hostile paths end', () => {
  link('fifo', '/dev/full');
  assert.equal(find([`/${'a'.repeat(5000)}`]), undefined);
  assert.equal(find([`/${'a/'.repeat(3000)}`]), undefined);
  assert.equal(find(['/fifo']), undefined);
  assert.equal(find(['/fi\0fo']), undefined);
});
