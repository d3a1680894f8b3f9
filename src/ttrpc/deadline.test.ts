import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startDeadline } from './deadline.ts';

const day = 24 * 3600 * 1000;

test('a delay longer than a timer takes passes when it is due, not at once', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let passed = 0;
  startDeadline(60 * day, () => {
    passed += 1;
  });
  const longestTimer = 2 ** 31 - 1;
  t.mock.timers.tick(longestTimer);
  t.mock.timers.tick(longestTimer);
  t.mock.timers.tick(60 * day - 2 * longestTimer - 1);
  assert.equal(passed, 0);
  t.mock.timers.tick(1);
  assert.equal(passed, 1);
  t.mock.timers.tick(100 * day);
  assert.equal(passed, 1);
});

test('a deadline called off never passes, whichever of its timers runs', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const callOff = startDeadline(60 * day, () => assert.fail('passed'));
  t.mock.timers.tick(30 * day);
  callOff();
  t.mock.timers.tick(100 * day);
});
