import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SpecResources } from './spec.ts';
import { startScopeArguments } from './systemd-scope.ts';

const unit = { slice: 'kubepods-pod1.slice', scope: 'cri-containerd-a.scope' };
const limits = { memoryLimit: 5000, cpuShares: 1024, cpuQuota: 50_000, cpuPeriod: 100_000, pidsLimit: -1 };

/** What follows the fixed properties, without the empty list of auxiliary units. */
function limitArguments(version: 1 | 2, resources: SpecResources = limits): readonly string[] {
  const args = startScopeArguments(unit, [7, 8], resources, version);
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

test('systemd is told of the swap that version 2 allows, which it takes for unlimited else', () => {
  const infinity = '18446744073709551615';
  const swapOf = (resources: SpecResources): readonly string[] => {
    const args = limitArguments(2, resources);
    return args.slice(args.indexOf('MemorySwapMax'));
  };
  assert.deepEqual(swapOf({ memoryLimit: 5000, memorySwap: 5000 }), ['MemorySwapMax', 't', '0']);
  assert.deepEqual(swapOf({ memoryLimit: 5000, memorySwap: -1 }), ['MemorySwapMax', 't', infinity]);
  assert.deepEqual(swapOf({ unified: [['memory.swap.max', '0']] }), ['MemorySwapMax', 't', '0']);
  assert.deepEqual(swapOf({ unified: [['memory.swap.max', 'max']] }), ['MemorySwapMax', 't', infinity]);
  assert.ok(!limitArguments(2, { memoryLimit: 5000 }).includes('MemorySwapMax'));
  assert.ok(!limitArguments(1, { memoryLimit: 5000, memorySwap: 5000 }).includes('MemorySwapMax'));
});
