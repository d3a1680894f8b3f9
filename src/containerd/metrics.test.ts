import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CgroupStats, readStatsV1, readStatsV2 } from '../workload/cgroup-stats.ts';
import { encodeMetrics } from './metrics.ts';
import { ProtoFile } from './proto-file.ts';

type Decoded = {
  readonly cpu: {
    readonly usage: { readonly total: number; readonly perCpu: readonly number[] };
    readonly usageUsec: number;
  };
  readonly blkio: {
    readonly ioServiceBytesRecursive: readonly { readonly op: string; readonly value: number }[];
  };
  readonly io: { readonly usage: readonly { readonly rbytes: number; readonly wbytes: number }[] };
  readonly memory: {
    readonly totalInactiveFile: number;
    readonly inactiveFile: number;
    readonly usageLimit: number;
    readonly usage: { readonly limit: number; readonly usage: number } & number;
  };
  readonly memoryOomControl: { readonly oomKill: number };
};

function decode(stats: CgroupStats): Decoded {
  const { type_url, value } = encodeMetrics(stats);
  const file = new ProtoFile(`metrics_v${stats.version}.proto`);
  return file.message<Decoded>(type_url).deserialize(Buffer.from(value));
}

test('version 1 statistics travel as the version 1 message', () => {
  const files = new Map([
    ['cpuacct.usage', '12345'],
    ['cpuacct.usage_percpu', '12000 345'],
    ['blkio.throttle.io_service_bytes_recursive', '8:0 Read 5\n8:0 Write 7'],
    ['memory.usage_in_bytes', '1000'],
    ['memory.stat', 'total_inactive_file 30'],
    ['memory.oom_control', 'oom_kill 1'],
  ]);
  const decoded = decode(readStatsV1((_, file) => files.get(file) ?? ''));
  assert.equal(decoded.cpu.usage.total, 12345);
  assert.deepEqual(decoded.cpu.usage.perCpu, [12000, 345]);
  assert.deepEqual(
    decoded.blkio.ioServiceBytesRecursive.map(({ op, value }) => [op, value]),
    [
      ['Read', 5],
      ['Write', 7],
    ],
  );
  assert.equal(decoded.memory.usage.usage, 1000);
  assert.equal(decoded.memory.usage.limit, 2 ** 63 - 4096);
  assert.equal(decoded.memory.totalInactiveFile, 30);
  assert.equal(decoded.memoryOomControl.oomKill, 1);
});

test('a node without block devices still sends their part, which clients count on', () => {
  assert.deepEqual(decode(readStatsV1(() => '')).blkio.ioServiceBytesRecursive, []);
});

test('version 2 statistics travel as the version 2 message', () => {
  const files = new Map([
    ['cpu.stat', 'usage_usec 12'],
    ['io.stat', '8:0 rbytes=5 wbytes=7'],
    ['memory.current', '1000'],
    ['memory.stat', 'inactive_file 30'],
  ]);
  const decoded = decode(readStatsV2((_, file) => files.get(file) ?? ''));
  assert.equal(decoded.cpu.usageUsec, 12);
  assert.deepEqual(
    decoded.io.usage.map(({ rbytes, wbytes }) => [rbytes, wbytes]),
    [[5, 7]],
  );
  assert.equal(decoded.memory.usage, 1000);
  assert.equal(decoded.memory.usageLimit, 2 ** 64);
  assert.equal(decoded.memory.inactiveFile, 30);
});
