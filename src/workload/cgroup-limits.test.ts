import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitWrites } from './cgroup-limits.ts';
import type { SpecResources } from './spec.ts';

function written(resources: SpecResources, version: 1 | 2): readonly string[] {
  return limitWrites(resources, version).map(({ file, value }) => `${file}=${value}`);
}

const limits: SpecResources = {
  memoryLimit: 1_000_000,
  memorySwap: 1_500_000,
  cpuShares: 1024,
  cpuQuota: 50_000,
  cpuPeriod: 100_000,
  pidsLimit: 100,
  cpusetCpus: '0-1',
};

test('version 1 gets the values as they are', () => {
  assert.deepEqual(written(limits, 1), [
    'memory.memsw.limit_in_bytes=1500000',
    'memory.limit_in_bytes=1000000',
    'memory.memsw.limit_in_bytes=1500000',
    'cpu.shares=1024',
    'cpu.cfs_period_us=100000',
    'cpu.cfs_quota_us=50000',
    'pids.max=100',
    'cpuset.cpus=0-1',
  ]);
});

test('version 2 gets its own scales', () => {
  assert.deepEqual(written(limits, 2), [
    'memory.max=1000000',
    'memory.swap.max=500000',
    'cpu.weight=39',
    'cpu.max=50000 100000',
    'pids.max=100',
    'cpuset.cpus=0-1',
  ]);
});

test('files of version 2 are written last as they are given, and on version 1 not at all', () => {
  const unified = { memoryLimit: 1_000_000, unified: [['memory.oom.group', '1']] } as const;
  assert.deepEqual(written(unified, 2), ['memory.max=1000000', 'memory.oom.group=1']);
  assert.deepEqual(written(unified, 1), ['memory.limit_in_bytes=1000000']);
});

test('shares keep within the weights of version 2', () => {
  assert.deepEqual(written({ cpuShares: 1 }, 2), ['cpu.weight=1']);
  assert.deepEqual(written({ cpuShares: 2 }, 2), ['cpu.weight=1']);
  assert.deepEqual(written({ cpuShares: 262_144 }, 2), ['cpu.weight=10000']);
  assert.deepEqual(written({ cpuShares: 1_000_000 }, 2), ['cpu.weight=10000']);
});

test('negative means unlimited, zero and absent mean untouched', () => {
  const unlimited = { memoryLimit: -1, cpuQuota: -1, pidsLimit: -1 };
  assert.deepEqual(written(unlimited, 1), [
    'memory.limit_in_bytes=-1',
    'cpu.cfs_quota_us=-1',
    'pids.max=max',
  ]);
  assert.deepEqual(written(unlimited, 2), ['memory.max=max', 'cpu.max=max 100000', 'pids.max=max']);
  const untouched = { memoryLimit: 0, cpuShares: 0, cpuQuota: 0, cpuPeriod: 0, pidsLimit: 0, cpusetCpus: '' };
  assert.deepEqual(written(untouched, 1), []);
  assert.deepEqual(written(untouched, 2), []);
});
