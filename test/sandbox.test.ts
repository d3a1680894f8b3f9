import assert from 'node:assert/strict';
import { readFileSync, rmdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LogHub } from '../src/telemetry/log.ts';
import { Cgroup, findHierarchies } from '../src/workload/cgroup.ts';
import { cgroupPathOf } from '../src/workload/cgroup-path.ts';
import { Sandbox } from '../src/workload/sandbox.ts';
import { parseSpec } from '../src/workload/spec.ts';
import { waitFor } from './support/wait.ts';

const launcher = join(import.meta.dirname, '..', 'dist', 'bin', 'containerd-shim-spin-v2');

/** A sandbox that is not made yet, its cgroup's directories, and what it logs. */
async function newSandbox(t: TestContext, name: string) {
  const path = await mkdtemp(join(tmpdir(), 'spinshim-sandbox-'));
  const cgroupsPath = `/spinshim-sandbox-${process.pid}-${name}`;
  const namespaces = ['ipc', 'uts', 'pid', 'network'].map((type) => ({ type }));
  const spec = parseSpec(JSON.stringify({ linux: { cgroupsPath, namespaces } }));
  const lines: string[] = [];
  const { logger } = new LogHub('info', { write: (line) => lines.push(line) });
  const sandbox = new Sandbox(name, { path, rootfs: path, spec }, launcher, logger);
  t.after(async () => {
    await sandbox.delete();
    await rm(path, { recursive: true });
  });
  const { directories } = new Cgroup(findHierarchies(), cgroupPathOf(cgroupsPath, name));
  return { sandbox, directories, lines };
}

test('both processes of a sandbox come into its cgroup', async (t) => {
  const { sandbox, directories } = await newSandbox(t, 'placed');
  const pid = await sandbox.create();
  const parent = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  for (const directory of directories)
    await waitFor(`both processes in ${directory}`, () => {
      const members = readFileSync(join(directory, 'cgroup.procs'), 'utf8').trim().split('\n').map(Number);
      return members.length === 2 && members.includes(pid) && members.includes(parent);
    });
});

test('a sandbox that cannot be put into its cgroup ends, and its log says why', async (t) => {
  const { sandbox, directories, lines } = await newSandbox(t, 'homeless');
  await sandbox.create();
  // Before its first file is opened, which takes a turn of the event loop.
  for (const directory of directories) rmdirSync(directory);
  assert.equal((await sandbox.exited).exitCode, 137);
  assert.match(lines.join(''), /the sandbox is ended/);
  assert.match(lines.join(''), /cannot be moved to \S+cgroup\.procs/);
});
