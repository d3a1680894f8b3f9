import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
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

/** A sandbox that is not made yet, its bundle, its cgroup's directories, and what it logs. A homeless one's cgroup goes before it comes. */
async function newSandbox(t: TestContext, name: string, { homeless = false } = {}) {
  const path = await mkdtemp(join(tmpdir(), 'spinshim-sandbox-'));
  const cgroupsPath = `/spinshim-sandbox-${process.pid}-${name}`;
  const namespaces = ['ipc', 'uts', 'pid', 'network'].map((type) => ({ type }));
  const spec = parseSpec(JSON.stringify({ linux: { cgroupsPath, namespaces } }));
  const lines: string[] = [];
  const { logger } = new LogHub('info', { write: (line) => lines.push(line) });
  const { directories } = new Cgroup(findHierarchies(), cgroupPathOf(cgroupsPath, name));
  const program = homeless ? join(path, 'launcher') : launcher;
  if (homeless) {
    const wait = `until [ -e ${join(path, 'made')} ]; do :; done`;
    const script = `#!/bin/sh\n${wait}; rmdir ${directories.join(' ')} && exec ${launcher} "$@"\n`;
    await writeFile(program, script, { mode: 0o755 });
  }
  const sandbox = new Sandbox(name, { path, rootfs: path, spec }, program, logger);
  t.after(async () => {
    await sandbox.delete();
    await rm(path, { recursive: true });
  });
  return { sandbox, path, directories, lines };
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

test('both processes of a sandbox come into its cgroup', async (t) => {
  const { sandbox, directories } = await newSandbox(t, 'placed');
  const pid = await sandbox.create();
  const parent = parentOf(pid);
  for (const directory of directories)
    await waitFor(`both processes in ${directory}`, () => {
      const members = readFileSync(join(directory, 'cgroup.procs'), 'utf8').trim().split('\n').map(Number);
      return members.length === 2 && members.includes(pid) && members.includes(parent);
    });
});

test('a sandbox that cannot be put into its cgroup ends, and its log says why', async (t) => {
  const { sandbox, path, lines } = await newSandbox(t, 'homeless', { homeless: true });
  const created = sandbox.create();
  // The cgroup is there: it is made while the launcher starts.
  await writeFile(join(path, 'made'), '');
  await created;
  assert.equal((await sandbox.exited).exitCode, 137);
  assert.match(lines.join(''), /the sandbox is ended/);
  assert.match(lines.join(''), /cannot be moved to \S+cgroup\.procs/);
});

test('a sandbox is in its journal when it is created, for whoever clears up after a host that ends then', async (t) => {
  const { sandbox, path } = await newSandbox(t, 'journaled');
  const pid = await sandbox.create();
  const listed = readFileSync(join(path, 'pids'), 'utf8').trim().split('\n');
  assert.deepEqual(
    listed.map((line) => Number(line.split(' ')[0])),
    [pid, parentOf(pid)],
  );
});
