/** What a number is in. */
export type Unit =
  | 'ms'
  | 'µs'
  | 'requests/s'
  | 'MiB'
  | 'MB/s'
  | 'bytes'
  | 'requests'
  | 'connections'
  | 'pods';

/** One measured quantity of one subject: the median over its rounds, and how far the rounds lay apart. */
export type Measurement = {
  readonly quantity: string;
  readonly subject: string;
  readonly unit: Unit;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly rounds: number;
};

/** Sums rounds up. Throws when there is none. */
export function summarize(
  quantity: string,
  subject: string,
  unit: Unit,
  rounds: readonly number[],
): Measurement {
  if (rounds.length === 0) throw new Error(`"${quantity}" of "${subject}" was never measured`);
  const sorted = [...rounds].sort((a, b) => a - b);
  const at = (index: number): number => rounded(sorted[index] ?? Number.NaN);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? at(middle) : rounded((at(middle - 1) + at(middle)) / 2);
  return { quantity, subject, unit, median, min: at(0), max: at(sorted.length - 1), rounds: sorted.length };
}

/** Four digits that mean something, and every digit before the point. */
function rounded(value: number): number {
  return Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(4));
}

/** Collects rounds of several quantities that are measured in turn. */
export class Rounds {
  readonly #series = new Map<string, { quantity: string; subject: string; unit: Unit; values: number[] }>();

  add(quantity: string, subject: string, unit: Unit, value: number): void {
    const key = JSON.stringify([quantity, subject]);
    const series = this.#series.get(key) ?? { quantity, subject, unit, values: [] };
    series.values.push(value);
    this.#series.set(key, series);
  }

  /** In the order the quantities were first seen, those of one kind together. */
  summary(): Measurement[] {
    const groups = Map.groupBy(this.#series.values(), ({ quantity }) => quantity);
    return [...groups.values()].flat().map((series) => {
      return summarize(series.quantity, series.subject, series.unit, series.values);
    });
  }
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** The value below which a share of the sorted values lies. Throws when there is none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  if (value === undefined) throw new Error('there is no value to take a quantile of');
  return value;
}

export type Line = {
  readonly slope: number;
  readonly intercept: number;
  /** Half the width of the interval in which the slope lies with 95 % confidence, for independent normal errors. */
  readonly slopeMargin: number;
};

/** The straight line through points with the least sum of squared errors. Throws with fewer than three points. */
export function leastSquares(points: readonly (readonly [x: number, y: number])[]): Line {
  const count = points.length;
  if (count < 3) throw new Error(`a line with its error needs three points, there are ${count}`);
  const mean = (index: 0 | 1): number => points.reduce((sum, point) => sum + point[index], 0) / count;
  const [meanX, meanY] = [mean(0), mean(1)];
  let xx = 0;
  let xy = 0;
  for (const [x, y] of points) {
    xx += (x - meanX) ** 2;
    xy += (x - meanX) * (y - meanY);
  }
  if (xx === 0) throw new Error('all points lie at one x: there is no slope');
  const slope = xy / xx;
  const intercept = meanY - slope * meanX;
  const squares = points.reduce((sum, [x, y]) => sum + (y - intercept - slope * x) ** 2, 0);
  const standardError = Math.sqrt(squares / (count - 2) / xx);
  return { slope, intercept, slopeMargin: studentQuantile(count - 2) * standardError };
}

/** 97.5 % quantile of Student's distribution; within 1 % from three degrees of freedom on (Abramowitz and Stegun 26.7.5). */
function studentQuantile(degrees: number): number {
  const exact = [12.706, 4.303][degrees - 1];
  if (exact !== undefined) return exact;
  const z = 1.959964;
  return (
    z +
    (z ** 3 + z) / (4 * degrees) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3)
  );
}
