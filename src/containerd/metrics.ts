import type { CgroupStats } from '../workload/cgroup-stats.ts';
import type { AnyMessage } from './messages.ts';
import { ProtoFile } from './proto-file.ts';

/** A count; text for what a number cannot hold. */
type Count = number | string;
type Fields = { readonly [name: string]: Count | Fields | readonly (Count | Fields)[] };

const typeNames = { 1: 'io.containerd.cgroups.v1.Metrics', 2: 'io.containerd.cgroups.v2.Metrics' } as const;
const codecs = {
  1: new ProtoFile('metrics_v1.proto').message<Fields>(typeNames[1]),
  2: new ProtoFile('metrics_v2.proto').message<Fields>(typeNames[2]),
};

/** How the kernel's "no limit" is told on each version: the values runc's shim sends. */
const unlimitedV1 = '9223372036854771712';
const unlimitedV2 = '18446744073709551615';

/** Encodes what a task used, as the message of the node's cgroup version (containerd.md 5.1). */
export function encodeMetrics(stats: CgroupStats): AnyMessage {
  const fields = stats.version === 1 ? metricsV1(stats) : metricsV2(stats);
  return { type_url: typeNames[stats.version], value: codecs[stats.version].serialize(fields) };
}

function metricsV1({ pids, cpu, io, memory }: CgroupStats): Fields {
  return {
    pids: { current: pids.current, limit: pids.limit ?? 0 },
    cpu: {
      usage: { total: cpu.usage, kernel: cpu.system, user: cpu.user, perCpu: cpu.perCpu },
      throttling: {
        periods: cpu.periods,
        throttledPeriods: cpu.throttledPeriods,
        throttledTime: cpu.throttledTime,
      },
    },
    memory: {
      totalRss: memory.anonymous,
      totalPgFault: memory.pageFaults,
      totalPgMajFault: memory.majorPageFaults,
      totalInactiveFile: memory.inactiveFile,
      usage: {
        limit: memory.limit ?? unlimitedV1,
        usage: memory.usage,
        max: memory.peak,
        failcnt: memory.failures,
      },
    },
    // There even without a device: nerdctl's `stats` counts on it.
    blkio: {
      ioServiceBytesRecursive: io.flatMap(({ major, minor, readBytes, writtenBytes }) => [
        { op: 'Read', major, minor, value: readBytes },
        { op: 'Write', major, minor, value: writtenBytes },
      ]),
    },
    memoryOomControl: { oomKill: memory.oomKills },
  };
}

function metricsV2({ pids, cpu, io, memory }: CgroupStats): Fields {
  const microseconds = (nanoseconds: number): number => Math.floor(nanoseconds / 1000);
  return {
    pids: { current: pids.current, limit: pids.limit ?? 0 },
    cpu: {
      usageUsec: microseconds(cpu.usage),
      userUsec: microseconds(cpu.user),
      systemUsec: microseconds(cpu.system),
      nrPeriods: cpu.periods,
      nrThrottled: cpu.throttledPeriods,
      throttledUsec: microseconds(cpu.throttledTime),
    },
    memory: {
      anon: memory.anonymous,
      file: memory.file,
      inactiveFile: memory.inactiveFile,
      pgfault: memory.pageFaults,
      pgmajfault: memory.majorPageFaults,
      usage: memory.usage,
      usageLimit: memory.limit ?? unlimitedV2,
      swapUsage: memory.swapUsage,
      swapLimit: memory.swapLimit ?? unlimitedV2,
    },
    io: {
      usage: io.map(({ major, minor, readBytes, writtenBytes }) => ({
        major,
        minor,
        rbytes: readBytes,
        wbytes: writtenBytes,
      })),
    },
    memoryEvents: { max: memory.failures, oomKill: memory.oomKills },
  };
}
