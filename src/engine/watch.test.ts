import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RequestBoard } from './request-board.ts';
import { standInAfterMs, Watch } from './watch.ts';

test('a guest is busy, then stalls its worker, then is over at its limit', () => {
  const board = new RequestBoard();
  const watch = new Watch(board, 1_000);
  assert.equal(watch.look(5, 0).kind, 'free');
  board.enter(board.begin('GET /'), 10, 1_010);
  assert.equal(watch.look(10 + standInAfterMs - 1, 0).kind, 'busy');
  assert.equal(watch.look(10 + standInAfterMs, 0).kind, 'stalled');
  assert.equal(watch.look(1_009, 0).kind, 'stalled');
  assert.deepEqual(watch.look(1_010, 0), {
    kind: 'over',
    reason: 'a guest computed for 1 s without waiting (SPIN_BUSY_TIMEOUT)',
  });
  board.leave();
  assert.equal(watch.look(1_011, 0).kind, 'free');
});

test('the time of the request is a limit too, and the only one when the other is off', () => {
  const board = new RequestBoard();
  board.enter(board.begin('GET /'), 10, 60);
  for (const busyTimeoutMs of [1_000, 0]) {
    const watch = new Watch(board, busyTimeoutMs);
    assert.equal(watch.look(59, 0).kind, 'busy');
    assert.deepEqual(watch.look(60, 0), {
      kind: 'over',
      reason: 'a guest computed on when the time of its request was over (SPIN_REQUEST_TIMEOUT)',
    });
  }
});

test('time in which nobody could look does not count, for that guest only', () => {
  const board = new RequestBoard();
  const watch = new Watch(board, 1_000);
  const slot = board.begin('GET /');
  board.enter(slot, 10, 1_010);
  assert.equal(watch.look(20, 0).kind, 'busy');
  assert.equal(watch.look(100_020, 100_000).kind, 'busy');
  assert.equal(watch.look(101_009, 0).kind, 'stalled');
  assert.equal(watch.look(101_010, 0).kind, 'over');
  board.leave();
  board.enter(slot, 200_000, 201_000);
  assert.equal(watch.look(201_000, 0).kind, 'over');
});

test('nor does it for a guest that had gone on since the last look, from where on it had', () => {
  const board = new RequestBoard();
  const watch = new Watch(board, 1_000);
  assert.equal(watch.look(20, 0).kind, 'free');
  board.enter(board.begin('GET /'), 30, 2_030);
  assert.equal(watch.look(100_040, 100_000).kind, 'busy');
  assert.equal(watch.look(100_139, 0).kind, 'stalled');
  assert.equal(watch.look(101_029, 0).kind, 'stalled');
  assert.equal(watch.look(101_040, 0).kind, 'over');
});

test('guests that pass the CPU to each other without letting the loop turn are over at twice the limit', () => {
  const board = new RequestBoard();
  const watch = new Watch(board, 1_000);
  const [one, two] = [board.begin('one'), board.begin('two')];
  for (let now = 10; now < 2_010; now += 500) {
    board.enter(now % 1_000 === 10 ? one : two, now, now + 1_000);
    assert.notEqual(watch.look(now, 0).kind, 'over');
  }
  assert.equal(watch.look(2_010, 0).kind, 'over');
});
