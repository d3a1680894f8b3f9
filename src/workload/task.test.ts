import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunningExec } from '../engine/engine-process.ts';
import { ShimError } from '../error.ts';
import { readStatsV2 } from './cgroup-stats.ts';
import { TaskStdio } from './stdio.ts';
import { maxExecs, Task, type TaskObserver } from './task.ts';
import type { TaskExit } from './task-state.ts';
import type { ExecCommand, Workload } from './workload.ts';

/** A workload whose every step is in the test's hands. */
class ScriptedWorkload implements Workload {
  readonly #exit = Promise.withResolvers<TaskExit>();
  readonly exited = this.#exit.promise;
  readonly calls: string[] = [];
  readonly execs = new Map<string, (exitCode: number) => void>();
  creation: Promise<number> = Promise.resolve(42);
  starting: Promise<void> = Promise.resolve();
  oom = false;

  end(exitCode: number): void {
    this.#exit.resolve({ exitCode, exitedAt: new Date(0) });
  }

  create = (): Promise<number> => this.creation;
  start = (): Promise<void> => this.starting;
  kill = async (signal: number): Promise<void> => {
    this.calls.push(`kill ${signal}`);
    if (signal === 9) this.end(137);
  };
  tellOfMemory = (): void => {};
  watchMemory = (tell: () => void): void => {
    this.tellOfMemory = tell;
  };
  outOfMemory = async (): Promise<boolean> => this.oom;
  pids = async (): Promise<readonly number[]> => [];
  stats = async () => readStatsV2(() => '');
  pause = async (): Promise<void> => {};
  resume = async (): Promise<void> => {};
  update = async (): Promise<void> => {};
  delete = async (): Promise<void> => {
    this.calls.push('delete');
  };
  assertExec = (): void => {};
  exec = ({ id }: ExecCommand): RunningExec => {
    this.calls.push(`exec ${id}`);
    return {
      pid: 7,
      exited: new Promise((resolve) => this.execs.set(id, resolve)),
      signal: (signal) => this.calls.push(`signal ${id} ${signal}`),
      resize: ({ columns, rows }) => this.calls.push(`resize ${id} ${columns} ${rows}`),
    };
  };
}

async function make(
  workload: ScriptedWorkload,
): Promise<{ readonly task: Promise<Task>; readonly seen: string[] }> {
  const seen: string[] = [];
  const observer: TaskObserver = {
    created: () => seen.push('created'),
    started: () => seen.push('started'),
    outOfMemory: () => seen.push('oom'),
    exited: (_, { exitCode }) => seen.push(`exited ${exitCode}`),
    paused: () => seen.push('paused'),
    resumed: () => seen.push('resumed'),
    execAdded: ({ id }) => seen.push(`added ${id}`),
    execStarted: ({ id, pid }) => seen.push(`started ${id} ${pid}`),
    execExited: ({ id }, { exitCode }) => seen.push(`exited ${id} ${exitCode}`),
  };
  const stdioPaths = { stdin: '', stdout: '', stderr: '' };
  const stdio = await TaskStdio.open(stdioPaths, { id: 'x', namespace: 'test', directory: '/b' });
  return { task: Task.create({ id: 'x', bundle: '/b', stdioPaths, stdio, workload, observer }), seen };
}

test('a workload that ends while it starts is started before it has ended', async () => {
  const workload = new ScriptedWorkload();
  const started = Promise.withResolvers<void>();
  workload.starting = started.promise;
  const made = await make(workload);
  const task = await made.task;
  const starting = task.start();
  workload.end(0);
  started.resolve();
  await starting;
  assert.equal((await task.exit).exitCode, 0);
  assert.deepEqual(made.seen, ['created', 'started', 'exited 0']);
});

test('a start that fails ends the task once, without a start', async () => {
  const workload = new ScriptedWorkload();
  workload.starting = Promise.reject(new ShimError('address-in-use', 'taken'));
  const made = await make(workload);
  const task = await made.task;
  await assert.rejects(task.start(), { code: 'address-in-use' });
  assert.equal((await task.exit).exitCode, 137);
  await task.delete();
  assert.deepEqual(made.seen, ['created', 'exited 137']);
});

test('a creation that fails is undone and has no exit', async () => {
  const workload = new ScriptedWorkload();
  workload.creation = Promise.reject(new ShimError('invalid-image', 'no app'));
  const made = await make(workload);
  await assert.rejects(made.task, { code: 'invalid-image', message: 'no app' });
  assert.deepEqual(made.seen, []);
  assert.deepEqual(workload.calls, ['delete']);
});

test('a kill does not wait for a start that hangs', async () => {
  const workload = new ScriptedWorkload();
  const hanging = Promise.withResolvers<void>();
  workload.starting = hanging.promise;
  const made = await make(workload);
  const task = await made.task;
  const starting = task.start();
  await task.kill(9, false);
  hanging.reject(new ShimError('unavailable', 'gone'));
  await assert.rejects(starting, { code: 'unavailable' });
  assert.equal((await task.exit).exitCode, 137);
});

test('a lack of memory is told as it happens, and no more after the end', async () => {
  const workload = new ScriptedWorkload();
  const made = await make(workload);
  const task = await made.task;
  await task.start();
  workload.tellOfMemory();
  assert.deepEqual(made.seen, ['created', 'started', 'oom']);
  workload.end(0);
  await task.exit;
  workload.tellOfMemory();
  assert.deepEqual(made.seen, ['created', 'started', 'oom', 'exited 0']);
});

test('a lack of memory is told before the end', async () => {
  const workload = new ScriptedWorkload();
  workload.oom = true;
  const made = await make(workload);
  const task = await made.task;
  await task.start();
  workload.end(137);
  await task.exit;
  assert.deepEqual(made.seen, ['created', 'started', 'oom', 'exited 137']);
});

test('a task that has ended still has a pid to show', async () => {
  const workload = new ScriptedWorkload();
  const made = await make(workload);
  const task = await made.task;
  workload.end(0);
  await task.exit;
  assert.deepEqual(await task.pids(), [42]);
});

const noStreams = { stdin: '', stdout: '', stderr: '' };

/** An exec's description without streams. */
function execOf(id: string, terminal = false) {
  const owner = { id, namespace: 'test', directory: '/b' };
  return { id, terminal, stdioPaths: noStreams, owner, process: { args: ['true'], env: [], cwd: '/' } };
}

async function running(): Promise<{ workload: ScriptedWorkload; task: Task; seen: string[] }> {
  const workload = new ScriptedWorkload();
  const made = await make(workload);
  const task = await made.task;
  await task.start();
  return { workload, task, seen: made.seen };
}

test('an exec is added, started, resized, signalled and ends once', async () => {
  const { workload, task, seen } = await running();
  const exec = task.addExec(execOf('e', true));
  assert.deepEqual([exec.state.kind, exec.pid], ['created', 0]);
  assert.throws(() => exec.kill(9), { code: 'failed-precondition', message: /process not created/ });
  exec.resize({ columns: 80, rows: 24 });
  await task.startExec('e');
  await assert.rejects(task.startExec('e'), { code: 'failed-precondition' });
  await assert.rejects(task.deleteExec('e'), { code: 'failed-precondition' });
  exec.kill(15);
  workload.execs.get('e')?.(143);
  assert.equal((await exec.exit).exitCode, 143);
  assert.throws(() => exec.kill(9), { code: 'not-found', message: /already finished/ });
  assert.equal((await task.deleteExec('e'))?.exitCode, 143);
  assert.throws(() => task.exec('e'), { code: 'not-found' });
  assert.deepEqual(workload.calls, ['exec e', 'resize e 80 24', 'signal e 15']);
  assert.deepEqual(seen.slice(2), ['added e', 'started e 7', 'exited e 143']);
});

test('every exec ends before its task does', async () => {
  const { workload, task, seen } = await running();
  task.addExec(execOf('never'));
  task.addExec(execOf('a'));
  task.addExec(execOf('b'));
  await task.startExec('a');
  await task.startExec('b');
  workload.end(0);
  await new Promise(setImmediate);
  assert.equal(task.state.kind, 'running');
  for (const id of ['b', 'a']) workload.execs.get(id)?.(137);
  await task.exit;
  assert.deepEqual(seen.slice(-3), ['exited b 137', 'exited a 137', 'exited 0']);
  await assert.rejects(task.startExec('never'), { code: 'failed-precondition', message: /stopped state/ });
  assert.equal(await task.deleteExec('never'), undefined);
});

test('an id is taken once, and only so many at a time', async () => {
  const { task } = await running();
  for (let index = 0; index < maxExecs; index++) task.addExec(execOf(`e${index}`));
  assert.throws(() => task.addExec(execOf('more')), { code: 'resource-exhausted', message: /maxExecs/ });
  await task.deleteExec('e0');
  assert.throws(() => task.addExec(execOf('e1')), { code: 'already-exists' });
  task.addExec(execOf('more'));
});

test('who waits for an exec that is deleted before its start is told', async () => {
  const { task } = await running();
  const { exit } = task.addExec(execOf('e'));
  assert.equal(await task.deleteExec('e'), undefined);
  assert.equal((await exit).exitCode, 137);
});
