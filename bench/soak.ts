import type { Bench } from './bench.ts';
import { load, loadTool } from './load.ts';
import { memoryUse } from './process-usage.ts';
import type { MemorySample, PartResult } from './results.ts';
import { startPod } from './servers.ts';
import { leastSquares, type Measurement, Rounds } from './statistics.ts';

/** Requests in all; the first tenth warms up and is left out of the slope. */
const requestCount = 1_000_000;
export const warmUpShare = 0.1;
/** Length of a load between two samples, seconds. */
const sliceSeconds = 2;

/** What is measured; the target looks for these. */
export const soakQuantities = {
  slope: 'anonymous memory added by one request',
  requests: 'requests answered',
} as const;

/** One engine and a great many requests: what of its memory grows with them. */
export async function measureSoak(bench: Bench): Promise<PartResult> {
  const tool = await loadTool();
  const server = await startPod(await bench.node(), 'hello');
  try {
    const wanted = bench.flags.requests ?? requestCount;
    const samples: MemorySample[] = [];
    const rounds = new Rounds();
    let requests = 0;
    while (requests < wanted) {
      bench.signal.throwIfAborted();
      const slice = await load(tool, { ...server, seconds: bench.flags.seconds ?? sliceSeconds });
      requests += slice.requests;
      samples.push({ requests, ...memoryUse(server.pid) });
      rounds.add('requests per second', 'hello', 'requests/s', slice.perSecond);
      if (process.stdout.isTTY) process.stdout.write(`\r${requests} of ${wanted} requests\r`);
    }
    const steady = samples.filter((sample) => sample.requests > wanted * warmUpShare);
    const one = (value: number) => ({ median: value, min: value, max: value, rounds: 1 });
    return {
      measurements: [
        ...rounds.summary(),
        { quantity: soakQuantities.requests, subject: 'hello', unit: 'requests', ...one(requests) },
        slopeOf(soakQuantities.slope, steady, ({ anonymousMiB }) => anonymousMiB),
        slopeOf('proportional set size added by one request', steady, ({ pssMiB }) => pssMiB),
      ],
      failures: [],
      samples,
    };
  } finally {
    await server.stop();
  }
}

/** Bytes that a kind of memory grows by with each request; `min` and `max` are the ends of the 95 % interval. */
function slopeOf(
  quantity: string,
  samples: readonly MemorySample[],
  mebibytes: (sample: MemorySample) => number,
): Measurement {
  const points = samples.map((sample) => [sample.requests, mebibytes(sample) * 1024 * 1024] as const);
  const { slope, slopeMargin } = leastSquares(points);
  return {
    quantity,
    subject: 'hello',
    unit: 'bytes',
    median: slope,
    min: slope - slopeMargin,
    max: slope + slopeMargin,
    rounds: samples.length,
  };
}
