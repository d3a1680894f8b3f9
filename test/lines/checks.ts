/** What came of one check. */
export type Outcome = 'pass' | 'fail' | 'not applicable';
export type CheckResult = {
  readonly name: string;
  readonly outcome: Outcome;
  /** What was seen, or why not; one line. */
  readonly detail: string;
  readonly milliseconds: number;
};

/** Thrown by a check that has nothing to prove on this line, with the reason. */
export class NotApplicable extends Error {
  override readonly name = 'NotApplicable';
}

/** Longest detail kept, in characters. */
const maxDetail = 600;

/** Runs checks one after another; one that fails does not keep the next from running. */
export class Checks {
  readonly results: CheckResult[] = [];
  readonly #report: (result: CheckResult) => void;
  readonly #afterOther: () => Promise<void>;

  /** `report` is told every result as it comes; `afterOther` puts away what a check that did not pass left behind. */
  constructor(report: (result: CheckResult) => void, afterOther: () => Promise<void>) {
    this.#report = report;
    this.#afterOther = afterOther;
  }

  /** `run` gives what it saw, throws `NotApplicable`, or throws anything else: a failure. */
  async check(name: string, run: () => Promise<string>): Promise<void> {
    const begun = performance.now();
    const { outcome, text } = await run().then(
      (seen) => ({ outcome: 'pass', text: seen }) as const,
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        return { outcome: error instanceof NotApplicable ? 'not applicable' : 'fail', text: why } as const;
      },
    );
    const line = text.replaceAll(/\s+/g, ' ').trim();
    // The end of what a program said matters more than its begin.
    const detail = line.length <= maxDetail ? line : `…${line.slice(1 - maxDetail)}`;
    const result = { name, outcome, detail, milliseconds: Math.round(performance.now() - begun) };
    this.results.push(result);
    this.#report(result);
    if (outcome !== 'pass') await this.#afterOther();
  }
}
