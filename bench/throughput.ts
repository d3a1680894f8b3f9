import type { Bench } from './bench.ts';
import { load, loadTool } from './load.ts';
import { cpuSeconds, pssMiB } from './process-usage.ts';
import type { Failure, PartResult } from './results.ts';
import { jcoName, type Server, startFloor, startJco, startPod } from './servers.ts';
import { Rounds } from './statistics.ts';

const roundCount = 3;
/** Length of one round of load in seconds, and of the warm-up of each server. */
const loadSeconds = 3;
const warmUpSeconds = 2;

/** What is measured of each server; plots and targets look for these. */
export const throughputQuantities = {
  rate: 'requests per second',
  cpu: 'CPU per request',
  p50: 'p50 at that load',
  p99: 'p99 at that load',
  memory: 'memory after that load (PSS)',
} as const;

/** Bare node:http, `jco serve` in its three modes and our pods: in turn, each on one and the same core. */
export async function measureThroughput(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const tool = await loadTool();
  const failures: Failure[] = [];
  const servers: Server[] = [];
  try {
    servers.push(await startFloor());
    for (const app of ['hello', 'js-api'] as const) {
      for (const isolation of ['none', 'instance', 'worker'] as const) {
        bench.signal.throwIfAborted();
        await startJco(app, isolation).then(
          (server) => servers.push(server),
          (error: Error) => failures.push({ subject: jcoName(app, isolation), reason: error.message }),
        );
      }
    }
    for (const app of ['hello', 'rust-http', 'js-api'] as const) servers.push(await startPod(node, app));
    const rounds = new Rounds();
    const failed = new Set<Server>();
    const once = async (server: Server, seconds: number, record: boolean): Promise<void> => {
      bench.signal.throwIfAborted();
      if (failed.has(server)) return;
      server.hold?.(false);
      try {
        const before = cpuSeconds(server.pid);
        const result = await load(tool, { ...server, seconds });
        if (!record) return;
        const cpu = ((cpuSeconds(server.pid) - before) / result.requests) * 1e6;
        rounds.add(throughputQuantities.rate, server.name, 'requests/s', result.perSecond);
        rounds.add(throughputQuantities.cpu, server.name, 'µs', cpu);
        rounds.add(throughputQuantities.p50, server.name, 'ms', result.p50Ms);
        rounds.add(throughputQuantities.p99, server.name, 'ms', result.p99Ms);
      } catch (error) {
        if (server.hold === undefined) throw error;
        if (!record) return;
        failed.add(server);
        failures.push({ subject: server.name, reason: `under load: ${(error as Error).message}` });
      } finally {
        server.hold?.(true);
      }
    };
    for (const server of servers) await once(server, bench.flags.seconds ?? warmUpSeconds, false);
    await bench.rounds(roundCount, async () => {
      for (const server of servers) await once(server, bench.flags.seconds ?? loadSeconds, true);
    });
    for (const server of servers)
      if (!failed.has(server))
        rounds.add(throughputQuantities.memory, server.name, 'MiB', pssMiB(server.pid));
    return { measurements: rounds.summary(), failures };
  } finally {
    for (const server of servers) await server.stop();
  }
}
