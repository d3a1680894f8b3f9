import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { mergeResults, type PartRecord, readResults } from './results.ts';
import { summarize, type Unit } from './statistics.ts';
import { figure, partTable, targetTable } from './tables.ts';

type Row = readonly [quantity: string, subject: string, unit: Unit, values: readonly number[]];

function record(...rows: readonly Row[]): PartRecord {
  const measurements = rows.map(([quantity, subject, unit, values]) =>
    summarize(quantity, subject, unit, values),
  );
  return { conditions: { date: 'today' }, measurements, failures: [] };
}

test('a figure has three digits that mean something', () => {
  assert.deepEqual([12_345.6, 99.94, 1.234, 0.1342, -3].map(figure), [
    '12,346',
    '99.9',
    '1.23',
    '0.134',
    '-3.00',
  ]);
});

test('a table has the fewer of quantities and subjects across, and says what failed', () => {
  const part = record(['time', 'a', 'ms', [1, 2, 3]], ['time', 'b', 'ms', [4]]);
  const text = partTable('bodies', { ...part, failures: [{ subject: 'c', reason: 'it\nbroke' }] });
  assert.match(text, /^\| {2}\| time, ms \|$/m);
  assert.match(text, /^\| a \| 2\.00 \(1\.00 … 3\.00\) \|$/m);
  assert.match(text, /^\| b \| 4\.00 \|$/m);
  assert.match(text, /Not measured: c: it broke\./);
  assert.match(partTable('soak', undefined), /make bench PART=soak/);
});

test('a target holds, fails or was not measured', () => {
  const lineOf = (rate: number, name: RegExp): string => {
    const rates = record(
      ['requests per second', 'bare node:http', 'requests/s', [1000]],
      ['requests per second', 'hello', 'requests/s', [rate]],
    );
    const lines = targetTable({ throughput: rates }).split('\n');
    return lines.find((line) => name.test(line)) ?? '';
  };
  assert.match(lineOf(300, /of bare node:http \|/), /\| 0\.300 × \| yes \|$/);
  assert.match(lineOf(299, /of bare node:http \|/), /\| 0\.299 × \| \*\*no\*\* \|$/);
  assert.match(lineOf(300, /of `jco serve`/), /\| not measured \| – \|$/);
});

test('a new record takes the place of its part alone', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-bench-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'below', 'results.json');
  const [first, second] = [1, 2].map((value) => record(['time', 'a', 'ms', [value]]));
  assert.ok(first !== undefined && second !== undefined);
  await mergeResults(path, { soak: first, bodies: first });
  await mergeResults(path, { bodies: second });
  assert.deepEqual(await readResults(path), { bodies: second, soak: first });
  await writeFile(path, '{');
  await assert.rejects(readResults(path), /is no results file/);
});
