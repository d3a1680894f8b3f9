import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readStatsV1, readStatsV2 } from './cgroup-stats.ts';

test('version 1 files are read in their units', () => {
  const files = new Map([
    ['pids.current', '3\n'],
    ['pids.max', 'max\n'],
    ['cpuacct.usage', '123456789\n'],
    ['cpuacct.stat', 'user 7\nsystem 5\n'],
    ['cpuacct.usage_percpu', '100 23 \n'],
    [
      'blkio.throttle.io_service_bytes_recursive',
      '8:0 Read 5\n8:0 Write 7\n8:0 Sync 12\n8:16 Read 1\nTotal 13\n',
    ],
    ['memory.usage_in_bytes', '1000\n'],
    ['memory.limit_in_bytes', '9223372036854771712\n'],
    ['memory.stat', 'cache 1\ntotal_rss 400\ntotal_inactive_file 30\ntotal_pgfault 9\n'],
    ['memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n'],
  ]);
  const stats = readStatsV1((_, file) => files.get(file) ?? '');
  assert.equal(stats.pids.current, 3);
  assert.equal(stats.pids.limit, undefined);
  assert.equal(stats.cpu.usage, 123_456_789);
  assert.equal(stats.cpu.user, 70_000_000);
  assert.deepEqual(stats.cpu.perCpu, [100, 23]);
  assert.deepEqual(stats.io, [
    { major: 8, minor: 0, readBytes: 5, writtenBytes: 7 },
    { major: 8, minor: 16, readBytes: 1, writtenBytes: 0 },
  ]);
  assert.equal(stats.memory.limit, undefined);
  assert.equal(stats.memory.anonymous, 400);
  assert.equal(stats.memory.inactiveFile, 30);
  assert.equal(stats.memory.oomKills, 2);
});

test('version 2 files are read in their units', () => {
  const files = new Map([
    ['pids.max', '10\n'],
    ['cpu.stat', 'usage_usec 5\nuser_usec 3\nsystem_usec 2\nthrottled_usec 1\n'],
    ['io.stat', '254:0 rbytes=9 wbytes=4 rios=1 wios=1 dbytes=0 dios=0\n'],
    ['memory.current', '1000\n'],
    ['memory.max', '4096\n'],
    ['memory.stat', 'anon 400\ninactive_file 30\n'],
    ['memory.events', 'low 0\nmax 7\noom 1\noom_kill 1\n'],
    ['memory.swap.max', 'max\n'],
  ]);
  const stats = readStatsV2((_, file) => files.get(file) ?? '');
  assert.equal(stats.pids.limit, 10);
  assert.equal(stats.cpu.usage, 5_000);
  assert.equal(stats.cpu.throttledTime, 1_000);
  assert.deepEqual(stats.io, [{ major: 254, minor: 0, readBytes: 9, writtenBytes: 4 }]);
  assert.equal(stats.memory.limit, 4096);
  assert.equal(stats.memory.failures, 7);
  assert.equal(stats.memory.oomKills, 1);
  assert.equal(stats.memory.swapLimit, undefined);
});

test('files that are missing or damaged count as zero', () => {
  assert.equal(readStatsV1(() => '').cpu.usage, 0);
  assert.equal(readStatsV2(() => 'junk\n').memory.usage, 0);
  assert.deepEqual([readStatsV1(() => 'junk\n').io, readStatsV2(() => 'junk\n').io], [[], []]);
});
