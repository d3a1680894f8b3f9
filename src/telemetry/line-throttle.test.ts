import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineThrottle } from './line-throttle.ts';

test('one line in a period, and the next tells how many were left out', () => {
  const lines: string[] = [];
  let now = 5;
  const throttle = new LineThrottle(
    (line) => lines.push(line),
    100,
    () => now,
  );
  throttle.line('first');
  for (let index = 0; index < 1_000; index++) throttle.line('second');
  now = 104;
  throttle.line('third');
  now = 105;
  throttle.line('fourth');
  now = 205;
  throttle.line('fifth');
  assert.deepEqual(lines, ['first', 'fourth (and 1001 more like this before)', 'fifth']);
});
