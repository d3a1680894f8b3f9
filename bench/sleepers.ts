import type { Bench } from './bench.ts';
import { pssMiB } from './process-usage.ts';
import { type RawAnswer, rawHttp } from './raw-http.ts';
import type { PartResult } from './results.ts';
import { startPod } from './servers.ts';
import { Rounds } from './statistics.ts';

/** Requests at once, and how long each guest sleeps. */
const crowds = [
  { app: 'rust-http', count: 1000, sleepMs: 1000, roundCount: 3 },
  // A JavaScript engine for each takes some 20 ms of CPU to make.
  { app: 'js-api', count: 1000, sleepMs: 1000, roundCount: 1 },
] as const;
/** Time for all of a crowd, milliseconds. */
const timeoutMs = 300_000;
/** Pause between two looks at the server's memory, milliseconds. */
const sampleMs = 100;

/** Guests that all sleep at the same time: until the last one has answered, and the memory it took. */
export async function measureSleepers(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const rounds = new Rounds();
  for (const { app, count, sleepMs, roundCount } of crowds) {
    const server = await startPod(node, app);
    try {
      const subject = `${count} × ${app}`;
      await rawHttp(server);
      await bench.rounds(roundCount, async () => {
        const before = pssMiB(server.pid);
        let peak = before;
        const sampler = setInterval(() => {
          peak = Math.max(peak, pssMiB(server.pid));
        }, sampleMs);
        const start = performance.now();
        const request = (): Promise<RawAnswer> =>
          rawHttp({ ...server, path: `/stream/1/${sleepMs}`, timeoutMs });
        const answers = await Promise.all(Array.from({ length: count }, request)).finally(() =>
          clearInterval(sampler),
        );
        const time = performance.now() - start;
        const wrong = answers.filter(({ status }) => status !== 200).length;
        if (wrong > 0) throw new Error(`${wrong} of ${count} answers of ${app} were no 200`);
        rounds.add(`guests asleep for ${sleepMs} ms at once, to the last answer`, subject, 'ms', time);
        rounds.add('memory of the server at most meanwhile (PSS)', subject, 'MiB', peak);
        rounds.add('memory it grew by', subject, 'MiB', peak - before);
      });
    } finally {
      await server.stop();
    }
  }
  return { measurements: rounds.summary(), failures: [] };
}
