import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startScopeArguments } from './systemd-scope.ts';

const unit = { slice: 'kubepods-pod1.slice', scope: 'cri-containerd-a.scope' };
const limits = { memoryLimit: 5000, cpuShares: 1024, cpuQuota: 50_000, cpuPeriod: 100_000, pidsLimit: -1 };

/** What follows the fixed properties, without the empty list of auxiliary units. */
function limitArguments(version: 1 | 2): readonly string[] {
  const args = startScopeArguments(unit, [7, 8], limits, version);
  return args.slice(args.indexOf('PIDs') + 5, -1);
}

test('the call names unit, slice and processes', () => {
  const args = startScopeArguments(unit, [7, 8], {}, 2);
  assert.deepEqual(args.slice(4, 9), [
    'StartTransientUnit',
    'ssa(sv)a(sa(sv))',
    'cri-containerd-a.scope',
    'replace',
    '6',
  ]);
  assert.deepEqual(args.slice(args.indexOf('Slice'), args.indexOf('Slice') + 3), ['Slice', 's', unit.slice]);
  assert.deepEqual(args.slice(args.indexOf('PIDs')), ['PIDs', 'au', '2', '7', '8', '0']);
});

test('limits are properties of the cgroup version', () => {
  const infinity = '18446744073709551615';
  assert.deepEqual(limitArguments(2), [
    ...['MemoryMax', 't', '5000', 'CPUWeight', 't', '39'],
    ...['CPUQuotaPerSecUSec', 't', '500000', 'TasksMax', 't', infinity],
  ]);
  assert.deepEqual(limitArguments(1), [
    ...['MemoryLimit', 't', '5000', 'CPUShares', 't', '1024'],
    ...['CPUQuotaPerSecUSec', 't', '500000', 'TasksMax', 't', infinity],
  ]);
});
