import type { Bench } from './bench.ts';
import { load, loadTool } from './load.ts';
import { pssMiB } from './process-usage.ts';
import type { MemorySample, PartResult } from './results.ts';
import { startPod } from './servers.ts';
import { leastSquares, Rounds } from './statistics.ts';
import { soakSlope } from './tables.ts';

/** Requests in all; the first tenth warms up and is left out of the slope. */
const requestCount = 1_000_000;
export const warmUpShare = 0.1;
/** Length of a load between two samples, seconds. */
const sliceSeconds = 2;

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
      samples.push({ requests, pssMiB: pssMiB(server.pid) });
      rounds.add('requests per second', 'hello', 'requests/s', slice.perSecond);
      process.stdout.write(`\r${requests} requests`);
    }
    process.stdout.write('\r');
    const steady = samples.filter((sample) => sample.requests > wanted * warmUpShare);
    const line = leastSquares(steady.map((sample) => [sample.requests, sample.pssMiB * 1024 * 1024]));
    const one = (value: number) => ({ median: value, min: value, max: value, rounds: 1 });
    return {
      measurements: [
        ...rounds.summary(),
        { quantity: 'requests answered', subject: 'hello', unit: 'requests', ...one(requests) },
        {
          quantity: soakSlope,
          subject: 'hello',
          unit: 'bytes',
          median: line.slope,
          min: line.slope - line.slopeMargin,
          max: line.slope + line.slopeMargin,
          rounds: steady.length,
        },
      ],
      failures: [],
      samples,
    };
  } finally {
    await server.stop();
  }
}
