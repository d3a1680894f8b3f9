import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { InstanceScope } from '../host/scope.ts';
import { PermitLedger, Permits } from './permits.ts';

function limits(maxInstances: number, maxWaiting: number, queueTimeoutMs = 0) {
  return { maxInstances, maxWaiting, queueTimeoutMs };
}

test('grants up to its count, then first come first served', async () => {
  const permits = new Permits(limits(2, 10));
  assert.deepEqual([permits.tryAcquire(), permits.tryAcquire(), permits.tryAcquire()], [true, true, false]);
  const order: number[] = [];
  const waiting = [1, 2, 3].map(async (index) => {
    await permits.acquire(new InstanceScope());
    order.push(index);
    permits.release();
  });
  await Promise.resolve();
  assert.deepEqual(order, []);
  permits.release();
  await Promise.all(waiting);
  assert.deepEqual(order, [1, 2, 3]);
  permits.release();
  assert.deepEqual([permits.tryAcquire(), permits.tryAcquire(), permits.tryAcquire()], [true, true, false]);
});

test('who comes later does not overtake who waits', async () => {
  const permits = new Permits(limits(1, 10));
  assert.ok(permits.tryAcquire());
  const first = permits.acquire(new InstanceScope());
  permits.release();
  assert.equal(permits.tryAcquire(), false);
  await first;
});

test('a queue at its limit refuses the next one and names both limits', async () => {
  const permits = new Permits(limits(1, 1));
  assert.ok(permits.tryAcquire());
  const queued = permits.acquire(new InstanceScope());
  await assert.rejects(permits.acquire(new InstanceScope()), {
    code: 'resource-exhausted',
    message:
      'all 1 instances (SPIN_MAX_INSTANCE_COUNT) serve requests and 1 more requests wait (SPIN_MAX_WAITING_REQUESTS)',
  });
  permits.release();
  await queued;
  const again = permits.acquire(new InstanceScope());
  permits.release();
  await again;
});

test('who waits too long is refused by name, and who comes after keeps its own time', async () => {
  const permits = new Permits(limits(1, 10, 20));
  assert.ok(permits.tryAcquire());
  const message =
    /waited for one of 1 instances \(SPIN_MAX_INSTANCE_COUNT\) for 20 ms \(SPIN_QUEUE_TIMEOUT\)/;
  // Two at different times: the timer is armed again for the second.
  const first = assert.rejects(permits.acquire(new InstanceScope()), { code: 'resource-exhausted', message });
  await new Promise((resolve) => setTimeout(resolve, 5));
  const second = assert.rejects(permits.acquire(new InstanceScope()), { message });
  await Promise.all([first, second]);
  permits.release();
  assert.ok(permits.tryAcquire());
});

test('who gives up waiting leaves the queue and takes no permit', async () => {
  const permits = new Permits(limits(1, 1));
  assert.ok(permits.tryAcquire());
  const gone = new InstanceScope();
  const queued = permits.acquire(gone);
  gone.end(new Error('gone'));
  await assert.rejects(queued, /gone/);
  await assert.rejects(permits.acquire(gone), /gone/);
  assert.equal(gone.pendingWaits, 0);
  const next = permits.acquire(new InstanceScope());
  permits.release();
  await next;
});

test('two workers share the count and the queue, and what a dead one held comes back', async () => {
  const ledger = PermitLedger.of(2);
  const one = new Permits(limits(2, 3), ledger, 0);
  const two = new Permits(limits(2, 3), PermitLedger.at(ledger.buffer), 1);
  assert.deepEqual([one.tryAcquire(), two.tryAcquire(), one.tryAcquire()], [true, true, false]);
  const [inOne, inTwo] = [one.acquire(new InstanceScope()), two.acquire(new InstanceScope())];
  const lost = two.acquire(new InstanceScope());
  await assert.rejects(one.acquire(new InstanceScope()), { code: 'resource-exhausted' });
  // The one that waits longest is served, whoever gives back.
  two.release();
  await inOne;
  one.release();
  await inTwo;
  // The second worker dies with one permit and one that waits.
  ledger.forget(1);
  assert.ok(one.tryAcquire());
  assert.equal(one.tryAcquire(), false);
  one.release();
  lost.catch(() => {});
});

test('a permit given back in one thread is granted in another', async () => {
  const ledger = PermitLedger.of(1);
  const here = new Permits(limits(1, 9), ledger, 0);
  assert.ok(here.tryAcquire());
  const room = JSON.stringify(new URL('./permits.ts', import.meta.url).href);
  const scopes = JSON.stringify(new URL('../host/scope.ts', import.meta.url).href);
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    // Waiting for a permit does not keep a thread up; a port that listens does.
    parentPort.on('message', () => {});
    Promise.all([import(${room}), import(${scopes})]).then(async ([{ PermitLedger, Permits }, { InstanceScope }]) => {
      const ledger = PermitLedger.at(workerData);
      const limits = { maxInstances: 1, maxWaiting: 9, queueTimeoutMs: 0 };
      const permits = new Permits(limits, ledger, 1);
      for (let round = 0; round < 50; round++) {
        await permits.acquire(new InstanceScope());
        permits.release();
      }
      parentPort.postMessage('done');
    });`;
  const worker = new Worker(code, { eval: true, workerData: ledger.buffer });
  let done = false;
  worker.once('message', () => {
    done = true;
  });
  while (!done) {
    here.release();
    await turn();
    await here.acquire(new InstanceScope());
  }
  await worker.terminate();
});
