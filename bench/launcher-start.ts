import { type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { BenchNode } from './bench-node.ts';
import { type Measurement, Rounds, timed } from './statistics.ts';

const roundCount = 40;

/** Runs a program to its end, with its stdin at its end as containerd gives it. Throws unless it exits with 0. */
async function run(program: string, args: readonly string[], options: SpawnOptions): Promise<void> {
  const [code] = await once(spawn(program, args, { ...options, stdio: 'ignore' }), 'exit');
  if (code !== 0) throw new Error(`"${program}" ended with ${code}`);
}

/** `containerd-shim-spin-v2 start` while the host lives, as containerd runs it, next to a program that does nothing. */
export async function measureLauncher(node: BenchNode): Promise<Measurement[]> {
  const { containerd, shim } = node.spin;
  const pod = await node.podAnswering('hello', 'keeps-the-host');
  const bundle = join(containerd.folder, 'bench-bundle');
  await mkdir(bundle, { recursive: true });
  const program = join(shim.containerd.shimDir ?? '', 'containerd-shim-spin-v2');
  const flags = ['-namespace', 'k8s.io', '-address', containerd.address, '-id', 'bench', 'start'];
  const env = { ...shim.containerd.env, SPINSHIM_RUN_DIR: containerd.runDir };
  const rounds = new Rounds('ms');
  for (let round = 0; round < roundCount; round++) {
    node.throwIfEnded();
    rounds.add(
      'launcher `start` with a live host',
      await timed(() => run(program, flags, { cwd: bundle, env })),
    );
    rounds.add(
      '`/bin/true`, the floor of the line above',
      await timed(() => run('/bin/true', [], { cwd: bundle })),
    );
  }
  await pod.remove();
  return rounds.summary();
}
