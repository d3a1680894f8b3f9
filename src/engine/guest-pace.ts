import { standInAfterMs } from './watch.ts';

/** A guest that keeps the thread for this long without waiting holds up answers that are complete, milliseconds. */
export const slowStretchMs = 1;

/** Stretches after a slow one for which the guests of its component count as slow. */
const slowStretches = 32;

/** The same after one that a stand-in was started for: a second may be one that never ends. */
const stalledStretches = 100_000;

/**
 * Whether the guests of a component have kept the thread of late. A stretch is the time from where a guest goes on to where
 * the next does, or to the end of the turn: work of the host in between counts as well, and where the container has no CPU
 * left, time in which nobody worked. So one slow stretch is not held against a component for long.
 */
export class GuestPace {
  #slowFor: number;

  /** `wary`: a guest of the app has kept another worker's thread for so long that it was ended or got a stand-in. */
  constructor(wary = false) {
    this.#slowFor = wary ? stalledStretches : 0;
  }

  /** Whether answers of others should not wait for a guest of it. */
  get isSlow(): boolean {
    return this.#slowFor > 0;
  }

  /** A guest of it has kept the thread for `milliseconds`. */
  note(milliseconds: number): void {
    if (milliseconds < slowStretchMs) {
      if (this.#slowFor > 0) this.#slowFor -= 1;
    } else {
      const due = milliseconds < standInAfterMs ? slowStretches : stalledStretches;
      this.#slowFor = Math.max(this.#slowFor, due);
    }
  }
}
