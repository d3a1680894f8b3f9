import { formatDuration, limitSettings } from './app-limits.ts';
import { msBetween, type RequestBoard } from './request-board.ts';

/** A guest that computes for this long makes other requests wait: another worker is started for them, milliseconds. */
export const standInAfterMs = 100;

/** A turn of a worker's event loop may take this many times what one guest may: several can share it. */
const turnsOfGuests = 2;

/** What a look at a worker told. */
export type Sight =
  /** No guest is on the CPU. */
  | { readonly kind: 'free' }
  | { readonly kind: 'busy' }
  /** A guest has computed for so long that others wait. */
  | { readonly kind: 'stalled' }
  /** It has to be ended; `reason` names the limit. */
  | { readonly kind: 'over'; readonly reason: string };

const free: Sight = { kind: 'free' };
const busy: Sight = { kind: 'busy' };
const stalled: Sight = { kind: 'stalled' };

/**
 * Minds the time that the guests of one worker take on the CPU, from outside. The time in which the watcher itself did
 * not run (the container was paused, the node overloaded) counts for nobody.
 */
export class Watch {
  readonly #board: RequestBoard;
  readonly #busyTimeoutMs: number;
  #since = 0;
  #turnSince = 0;
  #excusedMs = 0;
  #turnExcusedMs = 0;

  /** `busyTimeoutMs` 0 = no limit of that name. */
  constructor(board: RequestBoard, busyTimeoutMs: number) {
    this.#board = board;
    this.#busyTimeoutMs = busyTimeoutMs;
  }

  /** A look at time `now`, which is `lateMs` later than it should have been. */
  look(now: number, lateMs: number): Sight {
    const guest = this.#board.busy();
    if (guest === undefined) {
      this.#since = 0;
      this.#turnSince = 0;
      return free;
    }
    this.#excusedMs =
      (guest.since === this.#since ? this.#excusedMs : 0) + Math.min(lateMs, msBetween(now, guest.since));
    this.#turnExcusedMs =
      (guest.turnSince === this.#turnSince ? this.#turnExcusedMs : 0) +
      Math.min(lateMs, msBetween(now, guest.turnSince));
    this.#since = guest.since;
    this.#turnSince = guest.turnSince;
    const limit = this.#busyTimeoutMs;
    const computedMs = msBetween(now, guest.since) - this.#excusedMs;
    const turnMs = msBetween(now, guest.turnSince) - this.#turnExcusedMs;
    if (limit !== 0 && (computedMs >= limit || turnMs >= turnsOfGuests * limit))
      return {
        kind: 'over',
        reason: `a guest computed for ${formatDuration(limit)} without waiting (${limitSettings.busyTimeoutMs.name})`,
      };
    if (msBetween(now, guest.due) - this.#excusedMs >= 0)
      return {
        kind: 'over',
        reason: `a guest computed on when the time of its request was over (${limitSettings.requestTimeoutMs.name})`,
      };
    return computedMs >= standInAfterMs ? stalled : busy;
  }
}
