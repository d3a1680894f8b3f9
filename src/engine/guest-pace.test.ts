import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuestPace, slowStretchMs } from './guest-pace.ts';
import { standInAfterMs } from './watch.ts';

/** Quick stretches until a component counts as quick again. */
function quickAfter(pace: GuestPace): number {
  let count = 0;
  for (; pace.isSlow; count++) pace.note(slowStretchMs / 2);
  return count;
}

test('a component is quick until a guest of it has kept the thread, and again after 32 quick stretches', () => {
  const pace = new GuestPace();
  pace.note(slowStretchMs - 0.01);
  assert.equal(pace.isSlow, false);
  pace.note(slowStretchMs);
  assert.equal(quickAfter(pace), 32);
  pace.note(standInAfterMs - 0.01);
  pace.note(0);
  pace.note(slowStretchMs);
  assert.equal(quickAfter(pace), 32);
});

test('who kept it for so long that others needed a stand-in is not trusted soon, here nor in another worker', () => {
  const pace = new GuestPace();
  pace.note(standInAfterMs);
  pace.note(slowStretchMs);
  assert.equal(quickAfter(pace), 100_000);
  assert.equal(quickAfter(new GuestPace(true)), 100_000);
});
