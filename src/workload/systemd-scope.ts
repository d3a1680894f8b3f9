import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { cpuWeight, limitWrites } from './cgroup-limits.ts';
import type { SpecResources } from './spec.ts';

const run = promisify(execFile);

/** Longest wait for systemd's answer, milliseconds. */
const answerTimeoutMs = 5_000;

/** A scope below a slice, both with their suffix. */
export type SystemdUnit = { readonly slice: string; readonly scope: string };

/** A property of a unit as `busctl` takes it: name, D-Bus signature, values. */
type Property = readonly [name: string, signature: string, ...values: readonly string[]];

/** Whether systemd is this node's init (sd_booted(3)). */
export function systemdRuns(): boolean {
  return existsSync('/run/systemd/system');
}

/**
 * Tells systemd of a container's cgroup: it makes the unit around the processes that are there already. Without that it
 * takes the cgroup for a stranger's and may withdraw controllers from it. Rejects with what `busctl` says.
 */
export async function startScope(
  unit: SystemdUnit,
  pids: readonly number[],
  resources: SpecResources,
  version: 1 | 2,
): Promise<void> {
  await run('busctl', startScopeArguments(unit, pids, resources, version), { timeout: answerTimeoutMs });
}

/** Changes the limits that systemd believes the unit has. Rejects with what `busctl` says. */
export async function updateScope(
  unit: SystemdUnit,
  resources: SpecResources,
  version: 1 | 2,
): Promise<void> {
  const properties = limitProperties(resources, version);
  if (properties.length === 0) return;
  const args = ['SetUnitProperties', 'sba(sv)', unit.scope, 'true', ...propertyArguments(properties)];
  await run('busctl', [...manager, ...args], { timeout: answerTimeoutMs });
}

/** Ends a unit whose cgroup is gone. Rejects with what `busctl` says; most often systemd has seen to it already. */
export async function stopScope(unit: SystemdUnit): Promise<void> {
  await run('busctl', [...manager, 'StopUnit', 'ss', unit.scope, 'replace'], { timeout: answerTimeoutMs });
}

const manager = [
  'call',
  'org.freedesktop.systemd1',
  '/org/freedesktop/systemd1',
  'org.freedesktop.systemd1.Manager',
];

/** Arguments of `busctl` for StartTransientUnit(name, mode, properties, aux) (org.freedesktop.systemd1(5)). */
export function startScopeArguments(
  unit: SystemdUnit,
  pids: readonly number[],
  resources: SpecResources,
  version: 1 | 2,
): readonly string[] {
  const properties: readonly Property[] = [
    ['Description', 's', `Spin container ${unit.scope}`],
    ['Slice', 's', unit.slice],
    ['Delegate', 'b', 'true'],
    ['DefaultDependencies', 'b', 'false'],
    ['CollectMode', 's', 'inactive-or-failed'],
    ['PIDs', 'au', String(pids.length), ...pids.map(String)],
    ...limitProperties(resources, version),
  ];
  const signature = 'ssa(sv)a(sa(sv))';
  return [
    ...manager,
    'StartTransientUnit',
    signature,
    unit.scope,
    'replace',
    ...propertyArguments(properties),
    '0',
  ];
}

function propertyArguments(properties: readonly Property[]): readonly string[] {
  return [String(properties.length), ...properties.flat()];
}

/** The limits under systemd's names. Those of the specification's scale have other names on version 2. */
function limitProperties(resources: SpecResources, version: 1 | 2): readonly Property[] {
  const { memoryLimit, cpuShares, cpuQuota, cpuPeriod, pidsLimit } = resources;
  const infinity = '18446744073709551615';
  const properties: Property[] = [];
  const add = (name: string, value: number | string): void => {
    properties.push([name, 't', String(value)]);
  };
  if (memoryLimit !== undefined && memoryLimit !== 0) {
    add(version === 1 ? 'MemoryLimit' : 'MemoryMax', memoryLimit < 0 ? infinity : memoryLimit);
  }
  const swap = limitWrites(resources, version).findLast(({ file }) => file === 'memory.swap.max')?.value;
  // A size like "1G", which the kernel alone reads, would have the whole call refused.
  if (swap !== undefined && /^(?:max|\d+)$/.test(swap))
    add('MemorySwapMax', swap === 'max' ? infinity : swap);
  if (cpuShares !== undefined && cpuShares > 0) {
    if (version === 1) add('CPUShares', cpuShares);
    else add('CPUWeight', cpuWeight(cpuShares));
  }
  if (cpuQuota !== undefined && cpuQuota !== 0) {
    const perSecond = Math.ceil((cpuQuota * 1_000_000) / (cpuPeriod ?? 100_000));
    add('CPUQuotaPerSecUSec', cpuQuota < 0 ? infinity : perSecond);
  }
  if (pidsLimit !== undefined && pidsLimit !== 0) add('TasksMax', pidsLimit < 0 ? infinity : pidsLimit);
  return properties;
}
