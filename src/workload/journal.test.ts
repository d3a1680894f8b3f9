import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Journal, processStartTime } from './journal.ts';
import { compactLowerDirs, mountRootfs, unmountAll } from './mounts.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-journal-'));
after(() => rmSync(folder, { recursive: true }));

test('what is held is listed line by line, and the lists go in the end', async () => {
  const journal = new Journal(folder);
  journal.addProcesses([process.pid, 2 ** 22 + 1]);
  journal.addMount('/a');
  journal.addMount('/a/b');
  journal.addMount('/evil\n/etc');
  journal.addCgroups(['/c', '/c/d']);
  assert.equal(
    readFileSync(join(folder, 'pids'), 'utf8'),
    `${process.pid} ${processStartTime(process.pid)}\n`,
  );
  assert.equal(readFileSync(join(folder, 'mounts'), 'utf8'), '/a\n/a/b\n');
  assert.equal(readFileSync(join(folder, 'cgroups'), 'utf8'), '/c\n/c/d\n');
  assert.deepEqual(journal.mountsToUndo, ['/evil\n/etc', '/a/b', '/a']);
  await journal.remove();
  assert.deepEqual(readdirSync(folder), []);
});

test('a process that is gone has no start time', () => {
  assert.equal(processStartTime(2 ** 22 + 1), undefined);
  assert.match(processStartTime(1) ?? '', /^\d+$/);
});

test('root mounts are made, journaled and undone', async () => {
  const journal = new Journal(folder);
  const rootfs = join(folder, 'rootfs');
  await mountRootfs(
    [{ type: 'tmpfs', source: 'tmpfs', target: '', options: ['size=64k', 'uidmap=0:1:2', 'gidmap=0:1:2'] }],
    rootfs,
    journal,
  );
  assert.match(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(` ${rootfs} `));
  assert.equal(readFileSync(join(folder, 'mounts'), 'utf8'), `${rootfs}\n`);
  unmountAll(journal);
  assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(` ${rootfs} `));
});

test('a mount target cannot lead out of the root file system', async () => {
  const mount = { type: 'tmpfs', source: 'tmpfs', target: '../x', options: [] };
  await assert.rejects(mountRootfs([mount], join(folder, 'rootfs'), new Journal(folder)), {
    code: 'invalid-argument',
  });
});

test('many lower directories are named relative to their parent', () => {
  assert.deepEqual(compactLowerDirs(['index=off', 'lowerdir=/s/1/fs:/s/22/fs', 'upperdir=/s/3/fs']), {
    directory: '/s',
    options: ['index=off', 'lowerdir=1/fs:22/fs', 'upperdir=/s/3/fs'],
  });
  assert.equal(compactLowerDirs(['lowerdir=/a:/b']), undefined);
  assert.equal(compactLowerDirs(['bind']), undefined);
});
