/**
 * `make bench`: prints a table and writes it as JSON to `bench/results/local/latest.json`, or to the path given as the
 * argument. Takes two to three minutes; nothing in it passes or fails by a time.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { shimUnderTest } from '../test/support/shim.ts';
import { BenchNode } from './bench-node.ts';
import { readConditions } from './conditions.ts';
import { measureLauncher } from './launcher-start.ts';
import { measureMemory } from './memory.ts';
import { measureCrowd, measurePodStart } from './pod-start.ts';
import type { Measurement } from './statistics.ts';
import { measureThroughput } from './throughput.ts';

const parts = [measurePodStart, measureCrowd, measureLauncher, measureMemory, measureThroughput] as const;

function row({ name, unit, median, min, max, rounds }: Measurement): string {
  const digits = unit === 'requests/s' || median >= 100 ? 0 : median >= 10 ? 1 : 2;
  const text = (value: number): string => value.toFixed(digits).padStart(8);
  const spread = rounds === 1 ? ''.padStart(19) : `${text(min)} …${text(max)} `;
  return `${name.padEnd(66)}${text(median)} ${unit.padEnd(11)}${spread}${String(rounds).padStart(3)}`;
}

const ending = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => ending.abort(new Error(`ended by ${signal}`)));

if (process.getuid?.() !== 0) throw new Error('containerd, mounts and namespaces need root: run it as root');
const started = performance.now();
const conditions = await readConditions(shimUnderTest());
for (const [name, value] of Object.entries(conditions)) process.stdout.write(`${name.padEnd(12)}${value}\n`);
process.stdout.write(
  `\n${'median over rounds, taken in turn'.padEnd(66)}${'median'.padStart(8)}${' '.repeat(13)}`,
);
process.stdout.write(`${'min'.padStart(7)} …${'max'.padStart(8)} rounds\n`);

const node = await BenchNode.start(ending.signal);
const measurements: Measurement[] = [];
try {
  for (const measure of parts) {
    const results = await measure(node);
    for (const result of results) process.stdout.write(`${row(result)}\n`);
    measurements.push(...results);
  }
} finally {
  await node.stop();
}
const target = resolve(process.argv[2] ?? join(import.meta.dirname, 'results', 'local', 'latest.json'));
await mkdir(dirname(target), { recursive: true });
await writeFile(target, `${JSON.stringify({ conditions, measurements }, undefined, 2)}\n`);
const seconds = ((performance.now() - started) / 1000).toFixed(0);
process.stdout.write(`\n${seconds} s; written to ${target}\n`);
