import type { ScopeSource } from '../scope.ts';
import { Pollable, type Readiness } from './io.ts';

/** Where a guest's time comes from. */
export type Clock = {
  /** Nanoseconds since an arbitrary start, never going back. */
  monotonic(): bigint;
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  wall(): number;
};

/** The machine's clocks. */
export const systemClock: Clock = { monotonic: () => process.hrtime.bigint(), wall: () => Date.now() };

/** The longest delay one timer takes, in milliseconds (Node fires at once above it); longer waits re-arm. */
export const maxTimerMilliseconds = 2 ** 31 - 1;

const nanosecondsPerMillisecond = 1_000_000n;
const maxInstant = 2n ** 64n - 1n;

/** `wasi:clocks/wall-clock` `datetime`. */
export type Datetime = { readonly seconds: bigint; readonly nanoseconds: number };

const wallResolution: Datetime = { seconds: 0n, nanoseconds: 1_000_000 };
const zoneUtc = { utcOffset: 0, name: 'UTC', inDaylightSavingTime: false };

/** Milliseconds to give a timer so that `remaining` nanoseconds have passed when it fires, at most one timer's length. */
export function timerDelay(remaining: bigint): number {
  const milliseconds = (remaining + nanosecondsPerMillisecond - 1n) / nanosecondsPerMillisecond;
  return milliseconds > BigInt(maxTimerMilliseconds)
    ? maxTimerMilliseconds
    : Math.max(1, Number(milliseconds));
}

/**
 * Ready once the monotonic clock has reached `deadline`. A timer exists only while somebody waits: whoever cancels the
 * wait (an answer from another pollable, the end of the scope) takes the timer away. It does not keep the process up.
 */
export class Deadline implements Readiness {
  readonly #clock: Clock;
  readonly #deadline: bigint;

  constructor(clock: Clock, deadline: bigint) {
    this.#clock = clock;
    this.#deadline = deadline;
  }

  isReady(): boolean {
    return this.#clock.monotonic() >= this.#deadline;
  }

  subscribe(callback: () => void): () => void {
    let timer: NodeJS.Timeout | undefined;
    const arm = (): void => {
      const remaining = this.#deadline - this.#clock.monotonic();
      if (remaining <= 0n) callback();
      else timer = setTimeout(arm, timerDelay(remaining)).unref();
    };
    timer = setTimeout(arm, timerDelay(this.#deadline - this.#clock.monotonic())).unref();
    return () => clearTimeout(timer);
  }
}

/** Milliseconds since 1970 as WASI has them. */
export function datetime(milliseconds: number): Datetime {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds: BigInt(seconds), nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1_000_000) };
}

/** wasi:clocks 0.2 (wall clock of millisecond resolution, monotonic clock, time zone UTC) of one instance. */
export function createClocks(source: ScopeSource, clock: Clock = systemClock): ReadonlyMap<string, object> {
  const subscribeInstant = (when: bigint): Pollable => new Pollable(source.scope, new Deadline(clock, when));
  return new Map<string, object>([
    ['wasi:clocks/wall-clock', { now: () => datetime(clock.wall()), resolution: () => wallResolution }],
    [
      'wasi:clocks/monotonic-clock',
      {
        now: () => clock.monotonic(),
        resolution: () => 1n,
        subscribeInstant,
        subscribeDuration: (duration: bigint) => {
          const when = clock.monotonic() + duration;
          return subscribeInstant(when > maxInstant ? maxInstant : when);
        },
      },
    ],
    ['wasi:clocks/timezone', { display: () => zoneUtc, utcOffset: () => 0 }],
  ]);
}
