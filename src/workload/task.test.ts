import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import { readStatsV2 } from './cgroup-stats.ts';
import { TaskStdio } from './stdio.ts';
import { Task, type TaskObserver } from './task.ts';
import type { TaskExit } from './task-state.ts';
import type { Workload } from './workload.ts';

/** A workload whose every step is in the test's hands. */
class ScriptedWorkload implements Workload {
  readonly #exit = Promise.withResolvers<TaskExit>();
  readonly exited = this.#exit.promise;
  readonly calls: string[] = [];
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
  outOfMemory = async (): Promise<boolean> => this.oom;
  pids = async (): Promise<readonly number[]> => [];
  stats = async () => readStatsV2(() => '');
  pause = async (): Promise<void> => {};
  resume = async (): Promise<void> => {};
  update = async (): Promise<void> => {};
  delete = async (): Promise<void> => {
    this.calls.push('delete');
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
