import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Permits } from './permits.ts';

const never = new AbortController().signal;

test('grants up to its count, then first come first served', async () => {
  const permits = new Permits(2, 10);
  const order: number[] = [];
  const [first, second] = [await permits.acquire(never), await permits.acquire(never)];
  const waiting = [1, 2].map(async (index) => {
    const release = await permits.acquire(never);
    order.push(index);
    release();
  });
  await Promise.resolve();
  assert.deepEqual(order, []);
  first();
  await Promise.all(waiting);
  assert.deepEqual(order, [1, 2]);
  second();
});

test('giving a permit back twice counts once', async () => {
  const permits = new Permits(1, 0);
  const release = await permits.acquire(never);
  release();
  release();
  await permits.acquire(never);
  await assert.rejects(permits.acquire(never), { code: 'resource-exhausted' });
});

test('a queue at its limit refuses the next one', async () => {
  const permits = new Permits(1, 1);
  const release = await permits.acquire(never);
  const queued = permits.acquire(never);
  await assert.rejects(permits.acquire(never), {
    code: 'resource-exhausted',
    message: /1 requests wait for an instance already, the limit is 1/,
  });
  release();
  (await queued)();
});

test('who gives up waiting leaves the queue and takes no permit', async () => {
  const permits = new Permits(1, 1);
  const release = await permits.acquire(never);
  const gone = new AbortController();
  const queued = permits.acquire(gone.signal);
  gone.abort(new Error('gone'));
  await assert.rejects(queued, /gone/);
  const next = permits.acquire(never);
  release();
  (await next)();
});

test('who has given up already is not queued', async () => {
  const permits = new Permits(1, 1);
  const release = await permits.acquire(never);
  await assert.rejects(permits.acquire(AbortSignal.abort(new Error('gone'))), /gone/);
  const next = permits.acquire(never);
  release();
  (await next)();
});
