import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InstanceScope } from '../host/scope.ts';
import { GlueInstance, GluePool } from './glue-instance.ts';
import { GlueTasks } from './glue-task.ts';
import type { HostMaker } from './guest-instance.ts';

const hosts = { imports: {}, enter: () => {}, leave: () => {} };
const makeHosts: HostMaker = () => hosts;

function make(maker: HostMaker = makeHosts): GlueInstance {
  const scope = new InstanceScope();
  return new GlueInstance('c', scope, maker, { hosts, exports: {}, tasks: new GlueTasks(scope) });
}

/** One request that ends as it should. */
function serve(pool: GluePool, instance: GlueInstance): void {
  const request = new InstanceScope();
  pool.lend(instance, request).release(true);
  request.end(new Error('the request is over'));
}

test('an instance serves as many requests as it may', () => {
  const pool = new GluePool({ maxUses: 3, idleMs: 60_000, maxIdle: 2 });
  const instance = make();
  for (let use = 1; use < 3; use++) {
    serve(pool, instance);
    assert.equal(pool.take(makeHosts), instance);
    assert.equal(instance.scope.ended, undefined);
  }
  serve(pool, instance);
  assert.equal(pool.idle, 0);
  assert.match(String(instance.scope.ended), /retired/);
});

test('one whose request is abandoned or fails ends with it', () => {
  const pool = new GluePool();
  const abandoned = make();
  const request = new InstanceScope();
  const lent = pool.lend(abandoned, request);
  request.end(new Error('the client closed the connection'));
  assert.match(String(abandoned.scope.ended), /client/);
  lent.release(false);
  const failed = make();
  pool.lend(failed, new InstanceScope()).release(false);
  assert.notEqual(failed.scope.ended, undefined);
  assert.equal(pool.idle, 0);
});

test('one with a task that still runs, or that has failed, is not kept', () => {
  const pool = new GluePool();
  const running = make();
  running.tasks.control.started();
  serve(pool, running);
  const failed = make();
  failed.tasks.control.failed(new Error('trap'));
  serve(pool, failed);
  assert.equal(pool.idle, 0);
});

test('no more wait than may, and none for another maker of host objects', () => {
  const pool = new GluePool({ maxUses: 9, idleMs: 60_000, maxIdle: 1 });
  const [first, second] = [make(), make()];
  serve(pool, first);
  serve(pool, second);
  assert.equal(pool.idle, 1);
  assert.notEqual(second.scope.ended, undefined);
  assert.equal(
    pool.take(() => hosts),
    undefined,
  );
  assert.equal(pool.take(makeHosts), first);
});

test('one that nobody asks for is retired in time', async () => {
  const pool = new GluePool({ maxUses: 9, idleMs: 1, maxIdle: 1 });
  const instance = make();
  const ended = new Promise<void>((resolve) => instance.scope.adopt({ [Symbol.dispose]: resolve }));
  // The pool's timer keeps no process up.
  const keepUp = setInterval(() => {}, 1_000);
  serve(pool, instance);
  await ended;
  clearInterval(keepUp);
  assert.equal(pool.idle, 0);
});

test('the tasks of an instance are over when the last has ended, request after request', async () => {
  const tasks = new GlueTasks(new InstanceScope());
  for (let round = 0; round < 2; round++) {
    await tasks.ended();
    tasks.control.started();
    tasks.control.started();
    tasks.control.exited();
    const over = tasks.ended();
    tasks.control.exited();
    await over;
  }
  tasks.control.started();
  tasks.control.failed(new Error('trap'));
  await assert.rejects(tasks.ended(), /trap/);
});
