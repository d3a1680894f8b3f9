import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { fieldOfThreads } from '../../test/support/threads.ts';
import { waitFor } from '../../test/support/wait.ts';
import { EngineProcess } from './engine-process.ts';

/** How many files a process has open, but for the one that libuv holds in reserve from its first socket on. */
function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`) !== '/dev/null';
    } catch {
      return false;
    }
  }).length;
}

test('an engine that has rehearsed keeps its rights, holds no file more and complains of nothing', async () => {
  const engine = await EngineProcess.spawn();
  try {
    const rights = fieldOfThreads(engine.pid, 'CapEff');
    const files = openFiles(engine.pid);
    await engine.rehearse();
    assert.deepEqual(fieldOfThreads(engine.pid, 'CapEff'), rights);
    await waitFor('the open files of before', () => openFiles(engine.pid) <= files);
  } finally {
    engine.signal('SIGKILL');
  }
  const { reason, signal } = await engine.exited;
  assert.deepEqual({ reason, signal }, { reason: undefined, signal: 'SIGKILL' });
});
