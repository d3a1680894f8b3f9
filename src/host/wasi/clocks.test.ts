import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { type Clock, createClocks, maxTimerMilliseconds, systemClock, timerDelay } from './clocks.ts';
import { type Pollable, poll } from './io.ts';

type Monotonic = {
  now(): bigint;
  resolution(): bigint;
  subscribeInstant(when: bigint): Pollable;
  subscribeDuration(duration: bigint): Pollable;
};

function monotonic(scope: InstanceScope, clock: Clock = systemClock): Monotonic {
  return createClocks(scope, clock).get('wasi:clocks/monotonic-clock') as Monotonic;
}

let keepAlive: NodeJS.Timeout;
// The timers under test do not keep the process up.
before(() => {
  keepAlive = setInterval(() => {}, 1000);
});
after(() => clearInterval(keepAlive));

describe('monotonic-clock', () => {
  it('is ready no earlier than asked', async () => {
    const clock = monotonic(new InstanceScope());
    const start = clock.now();
    const pollable = clock.subscribeDuration(3_000_000n);
    assert.equal(pollable.ready(), false);
    await pollable.block();
    assert.ok(clock.now() - start >= 3_000_000n);
    assert.equal(pollable.ready(), true);
    assert.equal(clock.resolution(), 1n);
  });

  it('is ready at once for an instant that has passed', async () => {
    const clock = monotonic(new InstanceScope());
    const pollable = clock.subscribeInstant(clock.now());
    assert.equal(pollable.ready(), true);
    await pollable.block();
  });

  it('takes the longest duration without firing', async () => {
    const scope = new InstanceScope();
    const clock = monotonic(scope);
    const forever = clock.subscribeDuration(2n ** 64n - 1n);
    const soon = clock.subscribeDuration(2_000_000n);
    assert.deepEqual(await poll(scope, [forever, soon]), Uint32Array.of(1));
    assert.equal(scope.pendingWaits, 0);
    forever[Symbol.dispose]();
    soon[Symbol.dispose]();
    assert.equal(scope.openHandles, 0);
  });

  it('re-arms a timer that fired before its deadline', async () => {
    // A clock that stands still for its first readings, as if a clamped timer had run out.
    let readings = 0;
    const clock: Clock = { monotonic: () => (++readings > 5 ? 2n : 0n), wall: () => 0 };
    await monotonic(new InstanceScope(), clock).subscribeInstant(2n).block();
    assert.ok(readings > 5);
  });

  it('stops waiting when the scope ends', async () => {
    const scope = new InstanceScope();
    const waiting = monotonic(scope)
      .subscribeDuration(10n ** 18n)
      .block();
    scope.end(new Error('over'));
    await assert.rejects(async () => waiting, /over/);
    assert.equal(scope.pendingWaits, 0);
  });

  it('clamps timers to what Node takes', () => {
    const limit = BigInt(maxTimerMilliseconds) * 1_000_000n;
    assert.equal(timerDelay(-5n), 1);
    assert.equal(timerDelay(1n), 1);
    assert.equal(timerDelay(1_000_001n), 2);
    assert.equal(timerDelay(limit), maxTimerMilliseconds);
    assert.equal(timerDelay(limit + 1n), maxTimerMilliseconds);
    assert.equal(timerDelay(2n ** 64n), maxTimerMilliseconds);
  });
});

describe('wall-clock and timezone', () => {
  it('give seconds and nanoseconds, in UTC', () => {
    const clocks = createClocks(new InstanceScope(), { monotonic: () => 0n, wall: () => 1_700_000_000_123 });
    const wall = clocks.get('wasi:clocks/wall-clock') as { now(): unknown; resolution(): unknown };
    assert.deepEqual(wall.now(), { seconds: 1_700_000_000n, nanoseconds: 123_000_000 });
    assert.deepEqual(wall.resolution(), { seconds: 0n, nanoseconds: 1_000_000 });
    const zone = clocks.get('wasi:clocks/timezone') as { display(): unknown; utcOffset(): unknown };
    assert.deepEqual(zone.display(), { utcOffset: 0, name: 'UTC', inDaylightSavingTime: false });
    assert.equal(zone.utcOffset(), 0);
  });
});
