import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { clockMs, msBetween, noSlot, offsetOf, RequestBoard } from './request-board.ts';

test('the other side reads the requests in flight and the guest on the CPU', () => {
  const here = new RequestBoard();
  const there = new RequestBoard(here.buffer);
  assert.deepEqual(
    [there.busy(), there.current(), there.inFlight(9)],
    [undefined, undefined, { count: 0, others: [] }],
  );
  const [one, two] = [here.begin('GET /one'), here.begin('GET /two')];
  here.enter(two, 10, 40);
  here.enter(one, 20, 50);
  assert.deepEqual(there.busy(), { since: 20, due: 50, turnSince: 10 });
  assert.equal(there.current(), 'GET /one');
  assert.deepEqual(there.inFlight(9), { count: 2, others: ['GET /two'] });
  here.leave();
  assert.equal(there.busy(), undefined);
  here.end(one);
  assert.equal(there.current(), undefined);
  assert.deepEqual(there.inFlight(9), { count: 1, others: ['GET /two'] });
  here.end(two);
  assert.deepEqual(there.inFlight(9), { count: 0, others: [] });
});

test('descriptions are cut to their slot, also between the bytes of a character, and touch no other', () => {
  const board = new RequestBoard();
  const [one, two] = [board.begin('é'.repeat(1_000)), board.begin('GET /two')];
  board.enter(one, 1, 1);
  assert.equal(board.current(), 'é'.repeat(126));
  board.enter(two, 1, 1);
  assert.equal(board.current(), 'GET /two');
  board.end(one);
  board.enter(board.begin('x'.repeat(300)), 1, 1);
  assert.equal(board.current(), 'x'.repeat(252));
});

test('requests beyond its slots are counted, and a slot that is free again is used', () => {
  const board = new RequestBoard();
  const taken = Array.from({ length: 128 }, (_, index) => board.begin(`${index}`));
  assert.equal(new Set(taken).size, 128);
  assert.equal(board.begin('one more'), noSlot);
  assert.equal(board.inFlight(3).count, 129);
  assert.equal(board.inFlight(3).others.length, 3);
  board.enter(noSlot, 1, 1);
  assert.equal(board.current(), undefined);
  board.end(noSlot);
  board.end(taken[5] ?? 0);
  assert.equal(board.begin('again'), taken[5]);
});

test('a guest that stops or goes on while it is looked at does not look as if it had computed for long', async () => {
  const board = new RequestBoard();
  const module = JSON.stringify(new URL('./request-board.ts', import.meta.url).href);
  const code = `const { parentPort, workerData } = require('node:worker_threads');
    import(${module}).then(({ clockMs, RequestBoard }) => {
      const board = new RequestBoard(workerData);
      parentPort.postMessage('begun');
      for (;;) {
        board.enter(0, clockMs(), clockMs() + 60_000);
        board.leave();
      }
    });`;
  const worker = new Worker(code, { eval: true, workerData: board.buffer });
  try {
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    let looks = 0;
    for (const end = performance.now() + 20_000; looks < 50_000 && performance.now() < end; ) {
      const guest = board.busy();
      if (guest === undefined) continue;
      looks += 1;
      const now = clockMs();
      for (const time of [guest.since, guest.turnSince, guest.due - 60_000])
        assert.ok(Math.abs(msBetween(now, time)) < 10_000, JSON.stringify({ ...guest, now, looks }));
    }
    assert.ok(looks > 1_000, `${looks} looks found a guest`);
  } finally {
    await worker.terminate();
  }
});

test('a pause between the readings of two clocks is not taken for a difference', () => {
  for (const pausesBefore of [
    [],
    [1],
    [2],
    [1, 5, 7],
    [1, 2, 4, 5, 7, 8],
    Array.from({ length: 99 }, (_, index) => index),
  ]) {
    let [time, readings] = [1_000, 0];
    const read = (): number => {
      time += pausesBefore.includes(readings++) ? 40 : 0.001;
      return time;
    };
    const offset = offsetOf(read, () => read() - 800);
    assert.ok(Math.abs(offset - 800) < 0.01, `pauses before readings ${pausesBefore}: ${offset}`);
  }
});

test('two clocks are read a bounded number of times where every reading is interrupted', () => {
  let [time, readings] = [0, 0];
  const read = (): number => {
    readings += 1;
    time += 40;
    return time;
  };
  assert.equal(offsetOf(read, read), 0);
  assert.ok(readings < 1_000, `${readings} readings`);
});

test('threads read the same clock, and its differences hold where it wraps', async () => {
  const module = JSON.stringify(new URL('./request-board.ts', import.meta.url).href);
  const code = `import(${module}).then(({ clockMs }) => require('node:worker_threads').parentPort.postMessage(clockMs()))`;
  const before = clockMs();
  const worker = new Worker(code, { eval: true });
  const there = await new Promise<number>((resolve, reject) =>
    worker.once('message', resolve).once('error', reject),
  );
  assert.ok(msBetween(there, before) >= 0 && msBetween(clockMs(), there) >= 0);
  assert.equal(msBetween(-(2 ** 31) + 5, 2 ** 31 - 5), 10);
});
