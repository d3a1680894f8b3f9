import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AppLimits, defaultAppLimits, formatDuration, readAppLimits } from './app-limits.ts';

test('every limit is on by default', () => {
  assert.deepEqual(readAppLimits([]), {
    requestTimeoutMs: 300_000,
    busyTimeoutMs: 30_000,
    maxInstances: 1_000,
    maxWaiting: 1_000,
    queueTimeoutMs: 10_000,
    workers: undefined,
    drainTimeoutMs: 0,
  } satisfies AppLimits);
});

test('a container sets each of them', () => {
  assert.deepEqual(
    readAppLimits([
      ['SPIN_REQUEST_TIMEOUT', '1500ms'],
      ['SPIN_BUSY_TIMEOUT', '2m'],
      ['SPIN_MAX_INSTANCE_COUNT', '7'],
      ['SPIN_MAX_WAITING_REQUESTS', '0'],
      ['SPIN_QUEUE_TIMEOUT', '0'],
      ['SPIN_WORKERS', '64'],
      ['SPIN_DRAIN_TIMEOUT', '90s'],
      ['OTHER', 'x'],
    ]),
    {
      requestTimeoutMs: 1_500,
      busyTimeoutMs: 120_000,
      maxInstances: 7,
      maxWaiting: 0,
      queueTimeoutMs: 0,
      workers: 64,
      drainTimeoutMs: 90_000,
    },
  );
});

test('a value at the edge is taken, one beyond it is an error that names the variable', () => {
  assert.equal(readAppLimits([['SPIN_REQUEST_TIMEOUT', '2147483647ms']]).requestTimeoutMs, 2 ** 31 - 1);
  for (const [name, value] of [
    ['SPIN_REQUEST_TIMEOUT', '2147483648ms'],
    ['SPIN_REQUEST_TIMEOUT', '30'],
    ['SPIN_REQUEST_TIMEOUT', '-1s'],
    ['SPIN_REQUEST_TIMEOUT', '1.5s'],
    ['SPIN_REQUEST_TIMEOUT', ''],
    ['SPIN_BUSY_TIMEOUT', '1d'],
    ['SPIN_QUEUE_TIMEOUT', 'soon'],
    ['SPIN_MAX_INSTANCE_COUNT', '0'],
    ['SPIN_MAX_INSTANCE_COUNT', '5s'],
    ['SPIN_MAX_WAITING_REQUESTS', '1000001'],
    ['SPIN_WORKERS', '65'],
  ] as const) {
    assert.throws(() => readAppLimits([[name, value]]), {
      code: 'invalid-argument',
      message: new RegExp(`^${name} is "${value}", expected a whole number`),
    });
  }
});

test('durations are told as they are set', () => {
  assert.equal(formatDuration(defaultAppLimits.requestTimeoutMs), '300 s');
  assert.equal(formatDuration(1_500), '1500 ms');
});
