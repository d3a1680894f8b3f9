import { readFileSync } from 'node:fs';
import { commandOf } from '../test/support/machine-state.ts';
import { waitFor } from '../test/support/wait.ts';
import type { BenchNode, Subject } from './bench-node.ts';
import { type Measurement, summarize } from './statistics.ts';

/** Pods whose memory is averaged. */
const podCount = 10;

/** Proportional set size of a process in MiB: shared pages are split among those who share them. */
function pssMiB(pid: number): number {
  const kibibytes = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  return Number(kibibytes) / 1024;
}

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
    node.spin.containerd.processes().filter((pid) => /\/engine\.m?[jt]s/.test(commandOf(String(pid)))).length;
  await waitFor('the pool to be full', () => count() === engines + 1);
}

/** Proportional memory of the parts, with ten pods that have answered one request each; and what each pod adds. */
export async function measureMemory(node: BenchNode): Promise<Measurement[]> {
  const results: Measurement[] = [];
  const { containerd } = node.spin;
  for (const subject of ['runc', 'hello'] as const satisfies readonly Subject[]) {
    const first = await node.podAnswering(subject, `memory-${subject}`);
    if (subject !== 'runc') await poolFull(node, 1);
    const before = shimMemory(node);
    for (let index = 0; index < podCount; index++)
      await node.podAnswering(subject, `memory-${subject}-${index}`);
    if (subject !== 'runc') await poolFull(node, podCount + 1);
    const added = (shimMemory(node) - before) / podCount;
    const what = subject === 'runc' ? 'pod of the C server under runc' : `pod of ${subject}`;
    results.push(summarize(`memory that one more ${what} takes (PSS)`, 'MiB', [added]));
    if (subject !== 'runc') {
      const engine = await first.pid();
      const others = containerd.processes().map((pid) => ({ pid, command: commandOf(String(pid)) }));
      const sandboxes = others.filter(({ command }) => / pause /.test(command)).map(({ pid }) => pssMiB(pid));
      results.push(
        summarize(`memory of the host, ${podCount + 1} pods (PSS)`, 'MiB', containerd.hostPids().map(pssMiB)),
        summarize(`memory of an engine with ${subject} (PSS)`, 'MiB', [pssMiB(engine)]),
        summarize('memory of a sandbox, two processes of the launcher (PSS)', 'MiB', [
          sum(sandboxes) / (podCount + 1),
        ]),
      );
    }
    await node.spin.removePods();
  }
  return results;
}
