/**
 * `node bench/report.ts`: writes what `bench/results/reference.json` says into the marked places of
 * `docs/performance.md`, and as plots beside it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { plots } from './plots.ts';
import { type PartName, partNames, type Results, readResults } from './results.ts';
import { conditionLines, partTable, targetTable } from './tables.ts';

const root = join(import.meta.dirname, '..');
const results = join(import.meta.dirname, 'results');
export const referenceFile = join(results, 'reference.json');
const document = join(root, 'docs', 'performance.md');

/** Replaces the text between `<!-- begin NAME -->` and `<!-- end NAME -->`. Throws when a name's marks are not there once. */
export function fillIn(text: string, sections: ReadonlyMap<string, string>): string {
  let filled = text;
  for (const [name, content] of sections) {
    const [begin, end] = [`<!-- begin ${name} -->`, `<!-- end ${name} -->`];
    const parts = filled.split(begin);
    const [before, rest] = parts;
    const after = rest?.split(end);
    if (parts.length !== 2 || before === undefined || after?.length !== 2)
      throw new Error(`the document has not exactly one "${begin}" … "${end}"`);
    filled = `${before}${begin}\n\n${content}\n\n${end}${after[1]}`;
  }
  return filled;
}

/** The plots of a part, with what they show. */
const illustrations: Partial<Record<PartName, readonly (readonly [file: string, shows: string])[]>> = {
  throughput: [
    ['throughput.svg', 'Requests per second relative to bare node:http'],
    ['cpu-per-request.svg', 'CPU per request'],
  ],
  'cold-start': [['cold-start.svg', 'Cold start by phase']],
  soak: [['memory-slope.svg', 'Memory over the requests answered']],
};

/** What every generated file has to contain, by its path. */
export async function generatedFiles(reference: Results): Promise<ReadonlyMap<string, string>> {
  const drawn = plots(reference);
  const section = (name: PartName): string => {
    const shown = (illustrations[name] ?? []).filter(([file]) => drawn.has(file));
    const images = shown.map(([file, shows]) => `![${shows}](../bench/results/${file})\n\n`);
    return `${images.join('')}${partTable(name, reference[name])}`;
  };
  const sections = new Map([
    ['targets', targetTable(reference)],
    ['conditions', conditionLines(reference)],
    ...partNames.map((name): [string, string] => [name, section(name)]),
  ]);
  const files = new Map([[document, fillIn(await readFile(document, 'utf8'), sections)]]);
  for (const [name, svg] of drawn) files.set(join(results, name), svg);
  return files;
}

if (import.meta.main) {
  for (const [path, content] of await generatedFiles(await readResults(referenceFile))) {
    await writeFile(path, content);
    process.stdout.write(`written: ${path}\n`);
  }
}
