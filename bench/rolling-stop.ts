import type { Pod } from '../test/support/pod.ts';
import { RollingClients } from '../test/support/rolling-clients.ts';
import type { Bench } from './bench.ts';
import { connections } from './load.ts';
import type { PartResult } from './results.ts';
import { helloPath } from './servers.ts';
import { Rounds } from './statistics.ts';

const requestCount = 100_000;
/** Pods that serve at a time. */
const replicas = 3;
/** Grace period of a stop, seconds; as Kubernetes has it. */
const graceSeconds = 30;

/** What is measured; the target looks for these. */
export const rollingQuantities = {
  lost: 'requests lost',
  answered: 'requests answered',
  stopped: 'pods stopped meanwhile',
} as const;
export const rollingSubject = 'hello';

/**
 * Pods that take each other's place under load: one more is started, and when it answers the oldest is stopped with SIGTERM,
 * while clients know nothing of it. A request that was sent and not answered is lost; a connection that is refused is not.
 */
export async function measureRollingStop(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const clients = new RollingClients(helloPath(rollingSubject), bench.flags.requests ?? requestCount);
  const rounds = new Rounds();
  const serving: Pod[] = [];
  let started = 0;
  let stopped = 0;
  const add = async (): Promise<void> => {
    const pod = await node.podAnswering(rollingSubject, `rolling-${started++}`);
    serving.push(pod);
    clients.addresses.add(pod.ip);
  };
  while (serving.length < replicas) await add();
  const load = clients.run(connections);
  try {
    while (!clients.isOver) {
      await add();
      const oldest = serving.shift();
      if (oldest === undefined) break;
      const stopping = performance.now();
      await oldest.stop(graceSeconds);
      rounds.add('from the stop of a pod to its end', rollingSubject, 'ms', performance.now() - stopping);
      stopped += 1;
      clients.addresses.delete(oldest.ip);
      await oldest.remove();
    }
  } finally {
    clients.end();
    await load;
    for (const pod of serving) await pod.remove();
  }
  const { answered, lost, refused } = clients.counts;
  rounds.add(rollingQuantities.lost, rollingSubject, 'requests', lost.length);
  rounds.add(rollingQuantities.answered, rollingSubject, 'requests', answered);
  rounds.add(rollingQuantities.stopped, rollingSubject, 'pods', stopped);
  rounds.add('connections refused', rollingSubject, 'connections', refused);
  const failures = lost.slice(0, 5).map((reason) => ({ subject: 'a request', reason }));
  return { measurements: rounds.summary(), failures };
}
