/** One measured quantity: the median over its rounds, and how far the rounds lay apart. */
export type Measurement = {
  readonly name: string;
  readonly unit: 'ms' | 'requests/s' | 'MiB';
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly rounds: number;
};

/** Sums rounds up. Throws when there is none. */
export function summarize(name: string, unit: Measurement['unit'], rounds: readonly number[]): Measurement {
  if (rounds.length === 0) throw new Error(`"${name}" was never measured`);
  const sorted = [...rounds].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
  return { name, unit, median, min: at(0), max: at(sorted.length - 1), rounds: sorted.length };
}

/** Collects rounds of several quantities that are measured in turn. */
export class Rounds {
  readonly #unit: Measurement['unit'];
  readonly #values = new Map<string, number[]>();

  constructor(unit: Measurement['unit']) {
    this.#unit = unit;
  }

  add(name: string, value: number): void {
    const values = this.#values.get(name);
    if (values === undefined) this.#values.set(name, [value]);
    else values.push(value);
  }

  /** In the order the quantities were first seen. */
  summary(): Measurement[] {
    return [...this.#values].map(([name, values]) => summarize(name, this.#unit, values));
  }
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
