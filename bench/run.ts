/**
 * `make bench`: runs the parts in turn, prints a table of each and puts them into a results file, JSON, where a part's
 * new record takes the old one's place. Nothing in it passes or fails by a time.
 *
 *     run.ts [--part NAME …] [--output FILE] [--rounds N] [--seconds N] [--requests N]
 */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { shimUnderTest } from '../test/support/shim.ts';
import { Bench, type BenchFlags } from './bench.ts';
import { measureBodies } from './bodies.ts';
import { measureColdStart } from './cold-start.ts';
import { readConditions } from './conditions.ts';
import { measureExec } from './exec.ts';
import { measureKernels } from './kernels.ts';
import { measureLauncher } from './launcher-start.ts';
import { measureMemory } from './memory.ts';
import { measurePodStart } from './pod-start.ts';
import { mergeResults, type PartName, type PartResult, partNames } from './results.ts';
import { measureRollingStop } from './rolling-stop.ts';
import { measureRunaway } from './runaway.ts';
import { measureSleepers } from './sleepers.ts';
import { measureSoak } from './soak.ts';
import type { Measurement } from './statistics.ts';
import { measureTaskCalls } from './task-calls.ts';
import { measureThroughput } from './throughput.ts';

const parts: Readonly<Record<PartName, (bench: Bench) => Promise<PartResult>>> = {
  throughput: measureThroughput,
  bodies: measureBodies,
  sleepers: measureSleepers,
  kernels: measureKernels,
  'cold-start': measureColdStart,
  runaway: measureRunaway,
  'pod-start': measurePodStart,
  'rolling-stop': measureRollingStop,
  launcher: measureLauncher,
  memory: measureMemory,
  exec: measureExec,
  'task-calls': measureTaskCalls,
  soak: measureSoak,
};
/** What runs when no part is named. */
const usual = partNames.filter((name) => name !== 'soak');

/** Throws when a flag is not known, not a number above 0, or no part. */
function readFlags(): { names: readonly PartName[]; output: string; flags: BenchFlags } {
  const { values } = parseArgs({
    options: {
      part: { type: 'string', multiple: true },
      output: { type: 'string', default: join(import.meta.dirname, 'results', 'local', 'latest.json') },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      requests: { type: 'string' },
    },
  });
  const names = (values.part ?? usual).map((text) => {
    const name = partNames.find((part) => part === text);
    if (name === undefined) throw new Error(`no part "${text}"; there are: ${partNames.join(', ')}`);
    return name;
  });
  const flags = (['rounds', 'seconds', 'requests'] as const).flatMap((name) => {
    const text = values[name];
    if (text === undefined) return [];
    if (!/^[1-9]\d*$/.test(text)) throw new Error(`--${name} is "${text}", expected a whole number above 0`);
    return [[name, Number(text)] as const];
  });
  return { names, output: resolve(values.output), flags: Object.fromEntries(flags) };
}

function row({ quantity, subject, unit, median, min, max, rounds }: Measurement): string {
  const digits = Math.abs(median) >= 100 ? 0 : Math.abs(median) >= 10 ? 1 : 2;
  const text = (value: number): string => value.toFixed(digits).padStart(8);
  const spread = rounds === 1 ? ''.padStart(19) : `${text(min)} …${text(max)} `;
  const name = `${quantity}: ${subject}`;
  return `${name.padEnd(86)}${text(median)} ${unit.padEnd(11)}${spread}${String(rounds).padStart(3)}`;
}

function print({ measurements, failures }: PartResult): void {
  for (const measurement of measurements) process.stdout.write(`${row(measurement)}\n`);
  for (const { subject, reason } of failures) process.stdout.write(`${subject}: not measured: ${reason}\n`);
}

const { names, output, flags } = readFlags();
if (process.getuid?.() !== 0) throw new Error('containerd, mounts and namespaces need root: run it as root');
const ending = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => ending.abort(new Error(`ended by ${signal}`)));

const started = performance.now();
const conditions = await readConditions(shimUnderTest());
for (const [name, value] of Object.entries(conditions)) process.stdout.write(`${name.padEnd(12)}${value}\n`);
process.stdout.write('\nquantity: subject; median, unit, least … greatest round, rounds\n');
const bench = new Bench(flags, ending.signal);
try {
  for (const name of names) {
    process.stdout.write(`\n${name}\n`);
    const result = await parts[name](bench);
    print(result);
    await mergeResults(output, { [name]: { conditions, ...result } });
  }
} finally {
  await bench.stop();
}
const seconds = ((performance.now() - started) / 1000).toFixed(0);
process.stdout.write(`\n${seconds} s; written to ${output}\n`);
