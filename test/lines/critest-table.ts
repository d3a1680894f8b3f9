/**
 * Makes the tables of docs/conformance.md of what `critest.ts --report FILE` wrote: `critest-table.ts FILE...`, one file for each
 * line and kind of container. Rows are the parts of the suite; a cell has passed of run, and after a plus what did not apply.
 */
import { readFileSync } from 'node:fs';
import type { CritestReport } from './critest.ts';

const reports = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, 'utf8')) as CritestReport);

type Spec = CritestReport['specs'][number];

/** Specs that only count time, where they are asked to. */
const isBenchmark = ({ name }: Spec): boolean => / benchmark /.test(name);

function cell(specs: readonly Spec[]): string {
  const skipped = specs.filter(({ state }) => ['skipped', 'pending', 'inapplicable'].includes(state)).length;
  const passed = specs.filter(({ state }) => state === 'passed').length;
  const run = specs.length - skipped;
  if (run === 0) return skipped === 0 ? '' : `n/a ${skipped}`;
  return `${passed === run ? passed : `${passed} of ${run}`}${skipped === 0 ? '' : ` + n/a ${skipped}`}`;
}

for (const workload of ['apps', 'linux'] as const) {
  const columns = reports
    .filter((report) => report.workload === workload)
    .map(({ version, specs }) => ({ version, specs: specs.filter((spec) => !isBenchmark(spec)) }));
  const ran = ({ state }: Spec): boolean => state !== 'skipped' || workload === 'linux';
  const groups = [...new Set(columns.flatMap(({ specs }) => specs.filter(ran).map(({ group }) => group)))];
  const row = (cells: readonly string[]): void => console.log(`| ${cells.join(' | ')} |`);
  row([workload, ...columns.map(({ version }) => version.replace(/^v/, '').replace(/~.*/, ''))]);
  row(['---', ...columns.map(() => '---')]);
  for (const group of groups.toSorted())
    row([
      group,
      ...columns.map(({ specs }) => cell(specs.filter((spec) => spec.group === group && ran(spec)))),
    ]);
  row(['all', ...columns.map(({ specs }) => cell(specs.filter(ran)))]);
  console.log();
  const other = new Map<string, string[]>();
  for (const { version, specs } of columns)
    for (const { name, state, message } of specs)
      if (state !== 'passed' && (state !== 'skipped' || (workload === 'linux' && message !== ''))) {
        const key = `${state}: ${name.replace(/^\[k8s\.io\] /, '')}: ${message.slice(0, 160)}`;
        other.set(key, [...(other.get(key) ?? []), version]);
      }
  for (const [what, versions] of other) console.log(`- ${versions.join(', ')}: ${what}`);
  console.log();
}
