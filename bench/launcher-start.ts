import { type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bench } from './bench.ts';
import type { PartResult } from './results.ts';
import { Rounds, timed } from './statistics.ts';

const roundCount = 40;

/** Runs a program to its end, with its stdin at its end as containerd gives it. Throws unless it exits with 0. */
async function run(program: string, args: readonly string[], options: SpawnOptions): Promise<void> {
  const [code] = await once(spawn(program, args, { ...options, stdio: 'ignore' }), 'exit');
  if (code !== 0) throw new Error(`"${program}" ended with ${code}`);
}

/** `containerd-shim-spin-v2 start` while the host lives, as containerd runs it, next to a program that does nothing. */
export async function measureLauncher(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const { containerd, shim } = node.spin;
  const pod = await node.podAnswering('hello', 'keeps-the-host');
  const bundle = join(containerd.folder, 'bench-bundle');
  await mkdir(bundle, { recursive: true });
  const program = join(shim.containerd.shimDir ?? '', 'containerd-shim-spin-v2');
  const flags = ['-namespace', 'k8s.io', '-address', containerd.address, '-id', 'bench', 'start'];
  const env = { ...shim.containerd.env, SPINSHIM_RUN_DIR: containerd.runDir };
  const rounds = new Rounds();
  await bench.rounds(roundCount, async () => {
    const start = await timed(() => run(program, flags, { cwd: bundle, env }));
    rounds.add('a program run to its end', 'launcher `start` with a live host', 'ms', start);
    const nothing = await timed(() => run('/bin/true', [], { cwd: bundle }));
    rounds.add('a program run to its end', '`/bin/true`, the floor of it', 'ms', nothing);
  });
  await pod.remove();
  return { measurements: rounds.summary(), failures: [] };
}
