import type { ScopeSource } from '../scope.ts';
import { type Clock, Deadline, datetime, systemClock } from '../wasi/clocks.ts';

/** Resolution of the system clock, nanoseconds. */
const systemResolution = 1_000_000n;

const maxInstant = 2n ** 64n - 1n;

/** wasi:clocks 0.3 of one instance: monotonic clock, system clock of millisecond resolution, time zone UTC. */
export function createClocks03(source: ScopeSource, clock: Clock = systemClock): ReadonlyMap<string, object> {
  const waitUntil = async (when: bigint): Promise<void> => {
    const deadline = new Deadline(clock, when);
    const { scope } = source;
    while (!deadline.isReady()) await scope.wait((resolve) => deadline.subscribe(resolve));
  };
  return new Map<string, object>([
    [
      'wasi:clocks/monotonic-clock',
      {
        now: () => clock.monotonic(),
        getResolution: () => 1n,
        waitUntil,
        waitFor: (duration: bigint) => {
          const when = clock.monotonic() + duration;
          return waitUntil(when > maxInstant ? maxInstant : when);
        },
      },
    ],
    [
      'wasi:clocks/system-clock',
      { now: () => datetime(clock.wall()), getResolution: () => systemResolution },
    ],
    ['wasi:clocks/timezone', { ianaId: () => 'UTC', utcOffset: () => 0n, toDebugString: () => 'UTC' }],
    ['wasi:clocks/types', {}],
  ]);
}
