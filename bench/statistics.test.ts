import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leastSquares, quantile, Rounds, summarize } from './statistics.ts';

test('the median of an even number of rounds lies between the two in the middle', () => {
  const { median, min, max, rounds } = summarize('time', 'hello', 'ms', [4, 1, 3, 2]);
  assert.deepEqual({ median, min, max, rounds }, { median: 2.5, min: 1, max: 4, rounds: 4 });
  assert.throws(() => summarize('time', 'hello', 'ms', []), /"time" of "hello" was never measured/);
});

test('rounds of one quantity stay together, in the order they were first seen', () => {
  const rounds = new Rounds();
  for (const value of [1, 3]) {
    rounds.add('time', 'a', 'ms', value);
    rounds.add('memory', 'a', 'MiB', value);
    rounds.add('time', 'b', 'ms', value);
  }
  assert.deepEqual(
    rounds.summary().map(({ quantity, subject, median }) => [quantity, subject, median]),
    [
      ['time', 'a', 2],
      ['time', 'b', 2],
      ['memory', 'a', 2],
    ],
  );
});

test('a quantile is one of the values', () => {
  const values = Array.from({ length: 100 }, (_, index) => 99 - index);
  assert.equal(quantile(values, 0.5), 50);
  assert.equal(quantile(values, 0.99), 99);
  assert.throws(() => quantile([], 0.5), /no value/);
});

test('a line through noisy points has the slope and the error that a textbook gives', () => {
  // Anscombe's first set: slope 0.5001, standard error 0.1179; t for nine degrees of freedom is 2.262.
  const x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5];
  const y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
  const { slope, intercept, slopeMargin } = leastSquares(x.map((value, index) => [value, y[index] ?? 0]));
  assert.ok(Math.abs(slope - 0.5001) < 0.0001, `slope ${slope}`);
  assert.ok(Math.abs(intercept - 3.0001) < 0.0001, `intercept ${intercept}`);
  assert.ok(Math.abs(slopeMargin - 2.262 * 0.1179) < 0.002, `margin ${slopeMargin}`);
  assert.throws(() => leastSquares([[0, 0], [1, 1]]), /three points/); // biome-ignore format: short
  assert.throws(() => leastSquares([[1, 0], [1, 1], [1, 2]]), /no slope/); // biome-ignore format: short
});
