import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Conditions } from './conditions.ts';
import type { MemoryUse } from './process-usage.ts';
import type { Measurement } from './statistics.ts';

/** The parts of the benchmark, in the order they run and are told. `soak` runs only when it is asked for. */
export const partNames = [
  'throughput',
  'bodies',
  'sleepers',
  'kernels',
  'cold-start',
  'runaway',
  'pod-start',
  'rolling-stop',
  'launcher',
  'memory',
  'exec',
  'task-calls',
  'soak',
] as const;
export type PartName = (typeof partNames)[number];

/** Something that could not be measured, with what it said. */
export type Failure = { readonly subject: string; readonly reason: string };

/** Memory at one moment of a long run. */
export type MemorySample = MemoryUse & {
  /** Requests answered so far. */
  readonly requests: number;
};

/** What one part gave. */
export type PartResult = {
  readonly measurements: readonly Measurement[];
  readonly failures: readonly Failure[];
  readonly samples?: readonly MemorySample[];
};

/** A part's result with what it depends on. */
export type PartRecord = PartResult & { readonly conditions: Conditions };

/** A results file: the newest record of each part. */
export type Results = Partial<Record<PartName, PartRecord>>;

/** Reads a results file; one that is not there has no parts. */
export async function readResults(path: string): Promise<Results> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Results;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`"${path}" is no results file: ${String(error)}`, { cause: error });
  }
}

/** Puts records in the place of older ones of the same parts and leaves the others as they are. */
export async function mergeResults(path: string, added: Results): Promise<void> {
  const merged = { ...(await readResults(path)), ...added };
  const ordered = Object.fromEntries(partNames.map((name) => [name, merged[name]]));
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${JSON.stringify(ordered, undefined, 2)}\n`);
}
