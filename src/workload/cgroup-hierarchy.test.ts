import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCgroupMounts } from './cgroup-hierarchy.ts';

test('version 1 is one mount per group of controllers, named ones included', () => {
  const text = [
    '30 1 0:1 / / rw - ext4 /dev/sda rw',
    '31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct',
    '32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd',
    '33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    '34 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
  ].join('\n');
  assert.deepEqual(parseCgroupMounts(text), {
    version: 1,
    mounts: [
      { mountPoint: '/sys/fs/cgroup/cpu,cpuacct', controllers: ['cpu', 'cpuacct'] },
      { mountPoint: '/sys/fs/cgroup/systemd', controllers: [] },
    ],
  });
});

test('version 2 alone is one mount', () => {
  const text = '31 25 0:27 / /sys/fs/my\\040cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n';
  assert.deepEqual(parseCgroupMounts(text), { version: 2, mountPoint: '/sys/fs/my cgroup' });
});

test('no cgroup mounted is told', () => {
  assert.equal(parseCgroupMounts('30 1 0:1 / / rw - ext4 /dev/sda rw\n'), undefined);
});
