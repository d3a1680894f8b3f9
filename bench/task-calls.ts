import { PlayedContainerd, type TaskKind } from '../test/support/played-containerd.ts';
import type { Bench } from './bench.ts';
import type { PartResult } from './results.ts';
import { Rounds, timed } from './statistics.ts';

/** Calls of each kind, one after the other. */
const callRounds = 200;

/** What is measured; the target looks for these. */
export const taskCallQuantities = { stats: 'Stats', state: 'State' } as const;
export const taskCallSubjects = {
  Spin: 'Spin container',
  Linux: 'Linux container, by relay to its own shim',
} as const satisfies Partial<Record<TaskKind, string>>;

/** Calls that containerd makes again and again for every container, over the shim's socket. */
export async function measureTaskCalls(bench: Bench): Promise<PartResult> {
  const played = await PlayedContainerd.start();
  try {
    const rounds = new Rounds();
    const tasks: { readonly id: string; readonly subject: string }[] = [];
    for (const kind of ['Spin', 'Linux'] as const) {
      const id = await played.prepare(kind);
      await played.call('Create', id);
      await played.call('Start', id);
      tasks.push({ id, subject: taskCallSubjects[kind] });
    }
    await bench.rounds(callRounds, async () => {
      for (const { id, subject } of tasks) {
        rounds.add(taskCallQuantities.stats, subject, 'ms', await timed(() => played.call('Stats', id)));
        rounds.add(taskCallQuantities.state, subject, 'ms', await timed(() => played.call('State', id)));
      }
    });
    for (const { id } of tasks) {
      await played.call('Kill', id, { signal: 9 });
      await played.call('Wait', id);
      await played.call('Delete', id);
    }
    return { measurements: rounds.summary(), failures: [] };
  } finally {
    await played.stop();
  }
}
