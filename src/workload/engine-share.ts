import type { EngineClaim } from '../engine/engine-process.ts';
import type { SpecResources } from './spec.ts';

/** Microseconds in which a CPU quota is counted when its period is not given: the kernel's. */
const defaultPeriodUs = 100_000;

/**
 * What of a container's resources decides how its engine is laid out: threads by CPU quota, the ceiling of an instance's
 * memory. Decided once; a later Update changes the cgroup, not the layout.
 */
export function engineShare({
  cpuQuota = 0,
  cpuPeriod = 0,
  memoryLimit = 0,
}: SpecResources): Pick<EngineClaim, 'cpus' | 'memoryLimit'> {
  return {
    ...(cpuQuota > 0 ? { cpus: cpuQuota / (cpuPeriod > 0 ? cpuPeriod : defaultPeriodUs) } : {}),
    ...(memoryLimit > 0 ? { memoryLimit } : {}),
  };
}
