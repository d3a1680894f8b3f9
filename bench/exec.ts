import { importImage } from '../test/support/images.ts';
import { mixedImages, sidecarImage, startSidecar } from '../test/support/sidecar.ts';
import type { Bench } from './bench.ts';
import { memoryUse } from './process-usage.ts';
import type { PartResult } from './results.ts';
import { Rounds, timed } from './statistics.ts';

/** Commands one after the other in each of the containers. */
const execRounds = 40;

/** What is measured; the target looks for these. */
export const execQuantities = { first: 'ExecSync, the first of a container', later: 'ExecSync' } as const;
export const execSubject = 'Spin, true';

/**
 * CRI's ExecSync of a command that ends at once, in a Spin container and in a Linux container of the same pod under runc,
 * and what the shell's thread takes while it waits for the next one.
 */
export async function measureExec(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const { containerd, cri } = node.spin;
  await importImage(containerd, await sidecarImage(), mixedImages.sidecar);
  const pod = await node.podAnswering('hello', 'exec');
  const sidecar = await startSidecar(containerd, pod.id, 'sidecar', ['wait']);
  const health = ['curl', '-fsS', '-o', '/dev/null', 'http://localhost/.well-known/spin/health'];
  const rounds = new Rounds();
  const exec = (id: string, command: readonly string[]): Promise<number> =>
    timed(() => cri.execSync(id, command));
  const pid = await pod.pid();
  const before = memoryUse(pid).anonymousMiB;
  rounds.add(execQuantities.first, execSubject, 'ms', await exec(pod.containerId, ['true']));
  await bench.rounds(execRounds, async () => {
    const quantity = execQuantities.later;
    rounds.add(quantity, 'runc, a static program', 'ms', await exec(sidecar, ['/bin/sidecar', 'exit', '0']));
    rounds.add(quantity, execSubject, 'ms', await exec(pod.containerId, ['true']));
    rounds.add(quantity, 'Spin, curl of the app', 'ms', await exec(pod.containerId, health));
  });
  rounds.add(
    'memory that the shell adds to its engine',
    'anonymous',
    'MiB',
    memoryUse(pid).anonymousMiB - before,
  );
  await pod.remove();
  return { measurements: rounds.summary(), failures: [] };
}
