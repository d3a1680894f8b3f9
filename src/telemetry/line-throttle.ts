/** Time between two lines of the same kind, milliseconds. */
const defaultPeriodMs = 10_000;

/**
 * Lets one line of a kind through in a period and counts the others, so that an overload does not flood the log. The next
 * line that comes through tells how many were left out.
 */
export class LineThrottle {
  readonly #write: (line: string) => void;
  readonly #periodMs: number;
  readonly #now: () => number;
  #last = Number.NEGATIVE_INFINITY;
  #leftOut = 0;

  constructor(
    write: (line: string) => void,
    periodMs = defaultPeriodMs,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#periodMs = periodMs;
    this.#now = now;
  }

  line(text: string): void {
    const now = this.#now();
    if (now - this.#last < this.#periodMs) {
      this.#leftOut += 1;
      return;
    }
    const leftOut = this.#leftOut;
    this.#last = now;
    this.#leftOut = 0;
    this.#write(leftOut === 0 ? text : `${text} (and ${leftOut} more like this before)`);
  }
}
