import type { SpecResources } from './spec.ts';

/** One value for one file of a cgroup; `controller` tells the hierarchy on version 1. */
export type CgroupWrite = {
  readonly controller: string;
  readonly file: string;
  readonly value: string;
  /** Whether a kernel without the file is no reason to fail: swap accounting and the like. */
  readonly optional: boolean;
};

/** What to write for a container's limits, in order (containerd.md 8). */
export function limitWrites(resources: SpecResources, version: 1 | 2): readonly CgroupWrite[] {
  return version === 1 ? limitWritesV1(resources) : limitWritesV2(resources);
}

function limitWritesV1(resources: SpecResources): readonly CgroupWrite[] {
  const { memoryLimit, memorySwap, cpuShares, cpuQuota, cpuPeriod, pidsLimit } = resources;
  const writes: CgroupWrite[] = [];
  const add = (controller: string, file: string, value: number | string, optional = false): void => {
    writes.push({ controller, file, value: String(value), optional });
  };
  const addSwap = (): void => {
    if (memorySwap === undefined || memorySwap === 0) return;
    add('memory', 'memory.memsw.limit_in_bytes', atLeastMinusOne(memorySwap), true);
  };
  if (memoryLimit !== undefined && memoryLimit !== 0) {
    // At no moment may memory and swap together be less than memory: first for a raised limit, below for a lowered one.
    addSwap();
    add('memory', 'memory.limit_in_bytes', atLeastMinusOne(memoryLimit));
  }
  addSwap();
  if (cpuShares !== undefined && cpuShares > 0) add('cpu', 'cpu.shares', cpuShares);
  if (cpuPeriod !== undefined && cpuPeriod > 0) add('cpu', 'cpu.cfs_period_us', cpuPeriod);
  if (cpuQuota !== undefined && cpuQuota !== 0) add('cpu', 'cpu.cfs_quota_us', atLeastMinusOne(cpuQuota));
  if (pidsLimit !== undefined && pidsLimit !== 0) add('pids', 'pids.max', pidsLimit < 0 ? 'max' : pidsLimit);
  addCpuset(resources, writes);
  return writes;
}

function limitWritesV2(resources: SpecResources): readonly CgroupWrite[] {
  const { memoryLimit, memorySwap, cpuShares, cpuQuota, cpuPeriod, pidsLimit, unified = [] } = resources;
  const writes: CgroupWrite[] = [];
  const add = (controller: string, file: string, value: number | string, optional = false): void => {
    writes.push({ controller, file, value: String(value), optional });
  };
  if (memoryLimit !== undefined && memoryLimit !== 0) {
    add('memory', 'memory.max', memoryLimit < 0 ? 'max' : memoryLimit);
  }
  if (memorySwap !== undefined && memorySwap !== 0) {
    // Version 2 counts swap alone, the specification memory and swap together.
    const swap = memorySwap < 0 ? 'max' : Math.max(0, memorySwap - Math.max(0, memoryLimit ?? 0));
    add('memory', 'memory.swap.max', swap, true);
  }
  if (cpuShares !== undefined && cpuShares > 0) add('cpu', 'cpu.weight', cpuWeight(cpuShares));
  if ((cpuQuota !== undefined && cpuQuota !== 0) || (cpuPeriod !== undefined && cpuPeriod > 0)) {
    const period = cpuPeriod !== undefined && cpuPeriod > 0 ? cpuPeriod : 100_000;
    add('cpu', 'cpu.max', `${cpuQuota !== undefined && cpuQuota > 0 ? cpuQuota : 'max'} ${period}`);
  }
  if (pidsLimit !== undefined && pidsLimit !== 0) add('pids', 'pids.max', pidsLimit < 0 ? 'max' : pidsLimit);
  addCpuset(resources, writes);
  // Last: they name the kernel's files themselves, and so have the last word.
  for (const [file, value] of unified) add(file.slice(0, file.indexOf('.')), file, value);
  return writes;
}

function addCpuset({ cpusetCpus, cpusetMems }: SpecResources, writes: CgroupWrite[]): void {
  for (const [file, value] of [
    ['cpuset.cpus', cpusetCpus],
    ['cpuset.mems', cpusetMems],
  ] as const) {
    if (value !== undefined && value !== '')
      writes.push({ controller: 'cpuset', file, value, optional: false });
  }
}

/** CPU shares (2 … 262144) on version 2's scale (1 … 10000), as every runtime maps them. */
export function cpuWeight(shares: number): number {
  const bounded = Math.min(262_144, Math.max(2, shares));
  return 1 + Math.floor(((bounded - 2) * 9_999) / 262_142);
}

/** Version 1 writes "unlimited" as -1. */
function atLeastMinusOne(value: number): number {
  return Math.max(-1, value);
}
