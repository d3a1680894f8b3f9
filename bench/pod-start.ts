import type { BenchNode, Subject } from './bench-node.ts';
import { type Measurement, Rounds, timed } from './statistics.ts';

/** Rounds of one pod at a time, and of many at once. */
const singleRounds = 9;
const crowdRounds = 3;
/** Pods that start at the same time. */
const crowdSize = 10;

const label = (subject: Subject): string => (subject === 'runc' ? 'C server under runc' : subject);

/** From RunPodSandbox to the first 200, one pod after the other; images are pulled and apps prepared before. */
export async function measurePodStart(node: BenchNode): Promise<Measurement[]> {
  const rounds = new Rounds('ms');
  const subjects: readonly Subject[] = ['runc', ...node.apps];
  for (const subject of subjects) await (await node.podAnswering(subject, `warm-${subject}`)).remove();
  for (let round = 0; round < singleRounds; round++) {
    for (const subject of subjects) {
      const name = `start-${subject}-${round}`;
      const start = performance.now();
      const pod = await node.podAnswering(subject, name);
      rounds.add(`pod start to first 200: ${label(subject)}`, performance.now() - start);
      await pod.remove();
    }
  }
  return rounds.summary();
}

/** The same for pods that all start at once, until the last one has answered. */
export async function measureCrowd(node: BenchNode): Promise<Measurement[]> {
  const rounds = new Rounds('ms');
  for (let round = 0; round < crowdRounds; round++) {
    for (const subject of ['runc', 'hello'] as const) {
      const names = Array.from({ length: crowdSize }, (_, index) => `crowd-${subject}-${round}-${index}`);
      const time = await timed(() => Promise.all(names.map((name) => node.podAnswering(subject, name))));
      rounds.add(`${crowdSize} pods at once, to the last first 200: ${label(subject)}`, time);
      await node.spin.removePods();
    }
  }
  return rounds.summary();
}
