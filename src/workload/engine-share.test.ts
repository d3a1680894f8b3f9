import assert from 'node:assert/strict';
import { test } from 'node:test';
import { engineShare } from './engine-share.ts';

test('quota and memory limit are told; unlimited, zero and missing ones are none', () => {
  assert.deepEqual(engineShare({ cpuQuota: 150_000, cpuPeriod: 100_000, memoryLimit: 64 }), {
    cpus: 1.5,
    memoryLimit: 64,
  });
  assert.deepEqual(engineShare({ cpuQuota: 50_000 }), { cpus: 0.5 });
  assert.deepEqual(engineShare({ cpuQuota: 50_000, cpuPeriod: 0 }), { cpus: 0.5 });
  for (const none of [
    {},
    { cpuQuota: -1, cpuPeriod: 100_000, memoryLimit: -1 },
    { cpuQuota: 0, memoryLimit: 0 },
  ])
    assert.deepEqual(engineShare(none), {});
});
