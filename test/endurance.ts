/**
 * `make endurance`: makes and removes many pods, 200 with a Linux sidecar beside the app and 1,000 of an app alone unless
 * the arguments say otherwise (`[--line 2.3] [--shared] [MIXED ALONE]`), and ends with 1 unless processes, mounts, cgroups, FIFOs,
 * network links and the host's descriptors are afterwards what they were before, and once containerd is gone the whole
 * machine's mounts, namespaces, sockets, cgroups and the processes that anything here could have made. Prints what a
 * pod took and how the host's memory went. Nothing else may make containers meanwhile; `--shared` leaves the machine's
 * own tables out where something does.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { useLine } from './lines/containerd-lines.ts';
import { type Footprint, quietFootprint } from './support/footprint.ts';
import { type MachineTables, machineTables } from './support/machine-state.ts';
import { Pod } from './support/pod.ts';
import { importMixedImages, mixedImages, startSidecar } from './support/sidecar.ts';
import { SpinNode } from './support/spin-node.ts';
import { waitFor } from './support/wait.ts';

/** Pods that are there at once. */
const atOnce = 4;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { line: { type: 'string' }, shared: { type: 'boolean', default: false } },
});
const [mixedCount = 200, aloneCount = 1000] = positionals.map(Number);
if (flags.line !== undefined) useLine(flags.line);

/** Makes a pod, has its app answer, and removes it; with a sidecar that is answered by the app on localhost. */
async function onePod(node: SpinNode, name: string, kind: 'mixed' | 'alone'): Promise<void> {
  const pod = await Pod.run(node.containerd, { name, image: mixedImages.app });
  if (kind === 'mixed') {
    const sidecar = await startSidecar(node.containerd, pod.id, 'sidecar', ['wait']);
    const { exitCode, stdout } = await node.cri.execSync(sidecar, ['/bin/sidecar', 'fetch', '80', '/']);
    assert.equal(exitCode, 0);
    assert.match(stdout.toString(), /Hello from Spin!/);
  } else assert.equal((await pod.request('/')).status, 200);
  await pod.remove();
}

/** Runs `count` pods, a few at once; gives milliseconds per pod. */
async function manyPods(node: SpinNode, count: number, kind: 'mixed' | 'alone'): Promise<number> {
  let next = 0;
  const start = performance.now();
  const lane = async (): Promise<void> => {
    while (next < count) await onePod(node, `${kind}-${next++}`, kind);
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return (performance.now() - start) / count;
}

/** Memory that belongs to a process alone, MiB. */
function privateMemory(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const kilobytes = [...rollup.matchAll(/^Private_\w+:\s+(\d+) kB/gm)].map(([, value]) => Number(value));
  return kilobytes.reduce((sum, value) => sum + value, 0) / 1024;
}

/** Compares what there is with what there was; a process that ends just now gets time to. */
async function assertSame(node: SpinNode, before: Footprint): Promise<void> {
  await waitFor('the footprint of before', async () => {
    assert.deepEqual(await quietFootprint(node.containerd, 1), before);
    return true;
  });
}

/** What is there and was not, and what was and is not. */
function differences(before: MachineTables, after: MachineTables): string[] {
  return Object.entries(before).flatMap(([name, entries]) => {
    const now = Object.entries(after).find(([other]) => other === name)?.[1] ?? [];
    return [
      ...now.filter((entry) => !entries.includes(entry)).map((entry) => `more ${name}: ${entry}`),
      ...entries.filter((entry) => !now.includes(entry)).map((entry) => `fewer ${name}: ${entry}`),
    ];
  });
}

const machineBefore = machineTables();
const node = await SpinNode.start([]);
try {
  await importMixedImages(node.containerd);
  const resident = await Pod.run(node.containerd, { name: 'resident', image: mixedImages.app });
  await onePod(node, 'first', 'mixed');
  const before = await quietFootprint(node.containerd, 1);
  for (const [kind, count] of [
    ['mixed', mixedCount],
    ['alone', aloneCount],
  ] as const) {
    if (count === 0) continue;
    const memory = privateMemory(node.hostPid());
    const milliseconds = await manyPods(node, count, kind);
    await assertSame(node, before);
    const grown = privateMemory(node.hostPid()) - memory;
    console.log(
      `${count} pods (${kind}): ${milliseconds.toFixed(0)} ms each with ${atOnce} at once; nothing left; host ${grown >= 0 ? '+' : ''}${grown.toFixed(1)} MiB of ${memory.toFixed(1)}`,
    );
  }
  await resident.remove();
} finally {
  await node.stop();
}
if (!flags.shared) {
  await waitFor('the machine of before', () => {
    assert.deepEqual(differences(machineBefore, machineTables()), []);
    return true;
  });
  const sizes = Object.entries(machineBefore).map(([name, entries]) => `${entries.length} ${name}`);
  console.log(`containerd gone, the machine as before: ${sizes.join(', ')}`);
}
