import { commandOf } from '../test/support/machine-state.ts';
import { waitFor } from '../test/support/wait.ts';
import type { Bench } from './bench.ts';
import type { BenchNode, Subject } from './bench-node.ts';
import { label } from './pod-start.ts';
import { pssMiB } from './process-usage.ts';
import type { PartResult } from './results.ts';
import { Rounds } from './statistics.ts';

/** Pods whose memory is averaged. */
const podCount = 10;

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Memory of everything of this node but containerd itself, in MiB. */
function shimMemory(node: BenchNode): number {
  const { containerd } = node.spin;
  return sum(containerd.processes().flatMap((pid) => (pid === containerd.pid ? [] : [pssMiB(pid)])));
}

/** Waits until an engine is booted for the pool, since its boot would fall into what is measured. */
async function poolFull(node: BenchNode, engines: number): Promise<void> {
  const count = (): number =>
    node.spin.containerd.processes().filter((pid) => /\/engine\.[cm]?[jt]s/.test(commandOf(String(pid))))
      .length;
  await waitFor('the pool to be full', () => count() === engines + 1);
}

/** Proportional memory of the parts, with ten pods that have answered one request each; and what each pod adds. */
export async function measureMemory(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const rounds = new Rounds();
  const { containerd } = node.spin;
  for (const subject of ['runc', 'hello'] as const satisfies readonly Subject[]) {
    const first = await node.podAnswering(subject, `memory-${subject}`);
    if (subject !== 'runc') await poolFull(node, 1);
    const before = shimMemory(node);
    for (let index = 0; index < podCount; index++)
      await node.podAnswering(subject, `memory-${subject}-${index}`);
    if (subject !== 'runc') await poolFull(node, podCount + 1);
    rounds.add(
      'memory that one more pod takes (PSS)',
      label(subject),
      'MiB',
      (shimMemory(node) - before) / podCount,
    );
    if (subject !== 'runc') {
      const others = containerd.processes().map((pid) => ({ pid, command: commandOf(String(pid)) }));
      const sandboxes = others.filter(({ command }) => / pause /.test(command)).map(({ pid }) => pssMiB(pid));
      const parts = `of it, with ${podCount + 1} pods`;
      rounds.add(parts, 'the host', 'MiB', sum(containerd.hostPids().map(pssMiB)));
      rounds.add(parts, `an engine with ${subject}`, 'MiB', pssMiB(await first.pid()));
      rounds.add(parts, 'a sandbox, two processes of the launcher', 'MiB', sum(sandboxes) / (podCount + 1));
    }
    await node.spin.removePods();
  }
  return { measurements: rounds.summary(), failures: [] };
}
