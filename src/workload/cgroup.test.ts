import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, type TestContext, test } from 'node:test';
import { memoryHog } from '../../test/support/memory-hog.ts';
import { Cgroup, findHierarchies } from './cgroup.ts';
import { cgroupPathOf } from './cgroup-path.ts';

const cgroups: Cgroup[] = [];

function newCgroup(): Cgroup {
  const cgroup = new Cgroup(
    findHierarchies(),
    cgroupPathOf(`/spinshim-unit-${process.pid}-${cgroups.length}`, 'x'),
  );
  cgroups.push(cgroup);
  return cgroup;
}

function sleeper(): ChildProcess & { readonly pid: number } {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  assert.ok(child.pid !== undefined);
  return child as ChildProcess & { readonly pid: number };
}

afterEach(async () => {
  for (const cgroup of cgroups.splice(0)) await cgroup.remove();
});

test('a process is placed, counted, and killed by the removal', async () => {
  const cgroup = newCgroup();
  cgroup.create();
  const child = sleeper();
  await cgroup.place([child.pid]);
  assert.deepEqual(await cgroup.pids(), [child.pid]);
  assert.equal((await cgroup.stats()).pids.current, 1);
  const ended = once(child, 'exit');
  await cgroup.remove();
  assert.deepEqual(await ended, [null, 'SIGKILL']);
  for (const directory of cgroup.directories) assert.equal(existsSync(directory), false);
});

test('of a cgroup that systemd has removed the last reading is kept, and a kill is learned from its parent', async (t) => {
  const mountPoint = mkdtempSync(join(tmpdir(), 'spinshim-cgroup-'));
  t.after(() => rmSync(mountPoint, { recursive: true }));
  const parent = join(mountPoint, 'pod.slice');
  const write = (folder: string, file: string, text: string): void => writeFileSync(join(folder, file), text);
  mkdirSync(parent);
  write(parent, 'memory.events', 'oom 3\noom_kill 3\n');
  const cgroup = new Cgroup({ version: 2, mountPoint }, { path: '/pod.slice/app.scope' });
  cgroup.create();
  const [directory = ''] = cgroup.directories;
  write(directory, 'memory.current', '4096\n');
  assert.equal((await cgroup.stats()).memory.usage, 4096);
  rmSync(directory, { recursive: true });
  const { usage, oomKills } = (await cgroup.stats()).memory;
  assert.deepEqual([usage, oomKills], [4096, 0]);
  write(parent, 'memory.events', 'oom 4\noom_kill 4\n');
  assert.equal((await cgroup.stats()).memory.oomKills, 1);
});

/** A cgroup of version 2 in folders that a test writes the kernel's counts into; `kills` are those of its pod before it. */
async function podWithCounts(t: TestContext, kills: number) {
  const mountPoint = mkdtempSync(join(tmpdir(), 'spinshim-cgroup-'));
  t.after(() => rmSync(mountPoint, { recursive: true }));
  const parent = join(mountPoint, 'pod.slice');
  const count = (folder: string, now: number): void =>
    writeFileSync(join(folder, 'memory.events'), `oom ${now}\noom_kill ${now}\n`);
  mkdirSync(parent);
  count(parent, kills);
  const cgroup = new Cgroup({ version: 2, mountPoint }, { path: '/pod.slice/app.scope' });
  cgroup.create();
  const [directory = ''] = cgroup.directories;
  return { parent, directory, cgroup, count };
}

test('a kill that its parent counts while it lives on is of another container', async (t) => {
  const { parent, directory, cgroup, count } = await podWithCounts(t, 0);
  count(directory, 0);
  let told = Promise.withResolvers<number>();
  const watch = cgroup.watchMemory(() => told.resolve(cgroup.memoryKills()));
  t.after(() => watch.close());

  count(parent, 1);
  assert.equal(await told.promise, 0);
  rmSync(directory, { recursive: true });
  assert.equal(cgroup.memoryKills(), 0);
  assert.equal((await cgroup.stats()).memory.oomKills, 0);

  told = Promise.withResolvers();
  count(parent, 2);
  assert.equal(await told.promise, 1);
  assert.equal((await cgroup.stats()).memory.oomKills, 1);
});

test('a kill that its parent counts a moment later than the cgroup itself is one kill', async (t) => {
  const { parent, directory, cgroup, count } = await podWithCounts(t, 5);
  count(directory, 1);
  assert.equal(cgroup.memoryKills(), 1);
  count(parent, 6);
  rmSync(directory, { recursive: true });
  assert.equal(cgroup.memoryKills(), 1);
  count(parent, 7);
  assert.equal(cgroup.memoryKills(), 2);
});

test('a kill for want of memory is told of while others of the cgroup live on', async (t) => {
  const cgroup = newCgroup();
  cgroup.create();
  cgroup.limit({ memoryLimit: 32 * 1024 * 1024, memorySwap: 32 * 1024 * 1024 });
  const other = sleeper();
  const hog = memoryHog();
  t.after(() => hog.kill('SIGKILL'));
  for (const { pid } of [other, hog]) await cgroup.place([pid]);
  const told = Promise.withResolvers<void>();
  const watch = cgroup.watchMemory(() => {
    if (cgroup.memoryKills() > 0) told.resolve();
  });
  t.after(() => watch.close());
  const ended = once(hog, 'exit');
  assert.equal(cgroup.memoryKills(), 0);
  hog.stdin?.write('go\n');
  await told.promise;
  assert.equal(cgroup.memoryKills(), 1);
  assert.deepEqual(await ended, [null, 'SIGKILL']);
  assert.equal(other.exitCode ?? other.signalCode, null);
});

test('limits are set at first and by an update', async () => {
  const cgroup = newCgroup();
  cgroup.create();
  cgroup.limit({ memoryLimit: 64 * 1024 * 1024, pidsLimit: 7 });
  assert.equal((await cgroup.stats()).memory.limit, 64 * 1024 * 1024);
  await cgroup.update({ memoryLimit: 128 * 1024 * 1024 });
  const stats = await cgroup.stats();
  assert.equal(stats.memory.limit, 128 * 1024 * 1024);
  assert.equal(stats.pids.limit, 7);
});

test('memory and swap together are raised and lowered', async () => {
  const cgroup = newCgroup();
  for (const mebibytes of [64, 128, 32]) {
    const limit = mebibytes * 1024 * 1024;
    const resources = { memoryLimit: limit, memorySwap: limit };
    if (mebibytes === 64) {
      cgroup.create();
      cgroup.limit(resources);
    } else await cgroup.update(resources);
    assert.equal((await cgroup.stats()).memory.limit, limit);
  }
});

test('a limit that the kernel refuses is named', async () => {
  const cgroup = newCgroup();
  cgroup.create();
  assert.throws(() => cgroup.limit({ cpusetCpus: 'none' }), {
    code: 'failed-precondition',
    message: /"cpuset\.cpus".*"none"/,
  });
});

test('a frozen process is killed by the removal as well', async () => {
  const cgroup = newCgroup();
  cgroup.create();
  const child = sleeper();
  await cgroup.place([child.pid]);
  await cgroup.freeze(true);
  const ended = once(child, 'exit');
  await cgroup.remove();
  assert.deepEqual(await ended, [null, 'SIGKILL']);
});

test('removing twice is no error', async () => {
  const cgroup = newCgroup();
  cgroup.create();
  await cgroup.remove();
  await cgroup.remove();
});
