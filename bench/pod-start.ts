import type { Bench } from './bench.ts';
import type { Subject } from './bench-node.ts';
import type { PartResult } from './results.ts';
import { Rounds, timed } from './statistics.ts';

/** Rounds of one pod at a time, and of many at once. */
const singleRounds = 9;
const crowdRounds = 3;
/** Pods that start at the same time. */
const crowdSize = 10;

/** What targets look for. */
export const callsQuantity = 'RunPodSandbox, CreateContainer and StartContainer';

/** What a table calls it. */
export const label = (subject: Subject): string => (subject === 'runc' ? 'C server under runc' : subject);

/**
 * From RunPodSandbox to the first 200, one pod after the other and ten at a time; images are pulled and apps prepared
 * before.
 */
export async function measurePodStart(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const rounds = new Rounds();
  const subjects: readonly Subject[] = ['runc', 'hello', 'rust-http', 'js-api'];
  for (const subject of subjects) await (await node.podAnswering(subject, `warm-${subject}`)).remove();
  await bench.rounds(singleRounds, async (round) => {
    for (const subject of subjects) {
      const start = performance.now();
      const pod = await node.startPod(subject, `start-${subject}-${round}`);
      rounds.add(callsQuantity, label(subject), 'ms', performance.now() - start);
      await node.firstAnswerOf(pod);
      rounds.add('pod start to first 200', label(subject), 'ms', performance.now() - start);
      await pod.remove();
    }
  });
  await bench.rounds(crowdRounds, async (round) => {
    for (const subject of ['runc', 'hello'] as const) {
      const names = Array.from({ length: crowdSize }, (_, index) => `crowd-${subject}-${round}-${index}`);
      const time = await timed(() => Promise.all(names.map((name) => node.podAnswering(subject, name))));
      rounds.add(`${crowdSize} pods at once, to the last first 200`, label(subject), 'ms', time);
      await node.spin.removePods();
    }
  });
  return { measurements: rounds.summary(), failures: [] };
}
