import type { Bench } from './bench.ts';
import { rawHttp } from './raw-http.ts';
import type { Failure, PartResult } from './results.ts';
import { type Server, startPod } from './servers.ts';
import { quantile, Rounds } from './statistics.ts';

const roundCount = 3;
/** How long a guest may compute before its worker is ended, milliseconds. */
const deadlineMs = 500;
/** A guest that is not ended this long after its deadline is not ended at all, milliseconds. */
const graceMs = 10_000;
/** Neighbours: requests on connections of their own, begun at a fixed rate whether or not the ones before were answered. */
const perSecond = 200;
const windowSeconds = 5;
/** When in the window the runaway begins, seconds. */
const runawayAt = 1;
/** Worker threads of the engine, all on one core. */
const workers = 2;

/** What is measured; targets look for these. */
export const runawayQuantities = {
  late: `a runaway guest is ended after its deadline of ${deadlineMs} ms by`,
  p50: `neighbours' p50, ${perSecond} requests/s`,
  p99: `neighbours' p99, ${perSecond} requests/s`,
  cut: `neighbours cut off, of ${windowSeconds * perSecond}`,
} as const;
export const runawaySubjects = { calm: 'without a runaway', crowded: 'with one' } as const;

/** A guest that never ends, in an engine that serves others: until it is ended, and what the others notice. */
export async function measureRunaway(bench: Bench): Promise<PartResult> {
  const environment = { SPIN_BUSY_TIMEOUT: `${deadlineMs}ms`, SPIN_WORKERS: String(workers) };
  const server = await startPod(await bench.node(), 'rust-http', environment);
  const failures: Failure[] = [];
  try {
    const rounds = new Rounds();
    await neighbours(server, 1);
    await bench.rounds(roundCount, async () => {
      if (failures.length > 0) return;
      const calm = await neighbours(server, windowSeconds);
      const started = new Promise((resolve) => setTimeout(resolve, runawayAt * 1000));
      const both = Promise.all([neighbours(server, windowSeconds), started.then(() => runaway(server))]);
      const [crowded, ended] = await both;
      if (typeof ended === 'string') {
        failures.push({
          subject: 'a runaway guest',
          reason: `it was not ended: ${ended}`,
        });
        return;
      }
      rounds.add(runawayQuantities.late, runawaySubjects.crowded, 'ms', ended - deadlineMs);
      for (const [which, { latencies, cut }] of [
        ['calm', calm],
        ['crowded', crowded],
      ] as const) {
        const subject = runawaySubjects[which];
        rounds.add(runawayQuantities.p50, subject, 'ms', quantile(latencies, 0.5));
        rounds.add(runawayQuantities.p99, subject, 'ms', quantile(latencies, 0.99));
        rounds.add(runawayQuantities.cut, subject, 'requests', cut);
      }
    });
    return { measurements: rounds.summary(), failures };
  } finally {
    await server.stop();
  }
}

/** Milliseconds until the request of a guest that spins is over, or why it is not. */
async function runaway({ port }: Server): Promise<number | string> {
  const start = performance.now();
  try {
    const { status } = await rawHttp({ port, path: '/forever', timeoutMs: deadlineMs + graceMs });
    if (status < 500) return `the answer was ${status}`;
  } catch (error) {
    if (performance.now() - start >= deadlineMs + graceMs) return String((error as Error).message);
    // The connection ended with its worker, which is an end as well.
  }
  return performance.now() - start;
}

type Neighbours = {
  /** From the moment a request was due, so that one that waits for its turn counts as waiting, milliseconds. */
  readonly latencies: readonly number[];
  /** Requests whose connection ended without an answer; their time is among the latencies. */
  readonly cut: number;
};

async function neighbours({ port, path }: Server, seconds: number): Promise<Neighbours> {
  const start = performance.now();
  let cut = 0;
  const one = async (index: number): Promise<number> => {
    const due = start + (index * 1000) / perSecond;
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const answer = await rawHttp({ port, path, timeoutMs: deadlineMs + graceMs }).catch(() => undefined);
    if (answer === undefined) cut++;
    else if (answer.status !== 200) throw new Error(`a neighbour was answered ${answer.status}`);
    return performance.now() - due;
  };
  const latencies = await Promise.all(Array.from({ length: seconds * perSecond }, (_, index) => one(index)));
  return { latencies, cut };
}
