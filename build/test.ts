/**
 * Runs the tests and prints one closing count: unit tests (beside the code) two files at a time, then the end-to-end
 * tests, which look at the whole machine (mounts, namespaces, processes), one file at a time. Files or patterns given
 * as arguments are run in their place, one at a time.
 */
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

type TestEvent = { readonly type: string; readonly data: unknown };
type Diagnostic = { readonly nesting: number; readonly message: string };

const root = join(import.meta.dirname, '..');

function filesOf(...patterns: readonly string[]): readonly string[] {
  const files = patterns.flatMap((pattern) => globSync(pattern, { cwd: root })).sort();
  if (files.length > 0) return files.map((file) => join(root, file));
  throw new Error(`no test file matches ${patterns.map((pattern) => `"${pattern}"`).join(', ')}`);
}

const patterns = process.argv.slice(2);
const groups =
  patterns.length > 0
    ? [{ files: filesOf(...patterns), concurrency: 1 }]
    : [
        { files: filesOf('src/**/*.test.ts', 'bench/**/*.test.ts'), concurrency: 2 },
        { files: filesOf('test/**/*.test.ts'), concurrency: 1 },
      ];

const totals = new Map<string, number>();

/** The events of all groups, the closing counts of each put together. */
async function* events(): AsyncGenerator<TestEvent> {
  for (const { files, concurrency } of groups) {
    for await (const event of run({ files, concurrency, cwd: root }) as AsyncIterable<TestEvent>) {
      const count = event.type === 'test:diagnostic' ? closingCount(event.data as Diagnostic) : undefined;
      if (count === undefined) yield event;
      else totals.set(count.name, (totals.get(count.name) ?? 0) + count.value);
    }
  }
  for (const [name, value] of totals) {
    yield { type: 'test:diagnostic', data: { nesting: 0, message: `${name} ${value}`, level: 'info' } };
  }
}

function closingCount({ nesting, message }: Diagnostic): { name: string; value: number } | undefined {
  const match = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) (\d+(?:\.\d+)?)$/.exec(message);
  return nesting !== 0 || match === null ? undefined : { name: match[1] ?? '', value: Number(match[2]) };
}

await pipeline(Readable.from(events()).compose(new spec()), process.stdout, { end: false });
const failed = (totals.get('fail') ?? 0) + (totals.get('cancelled') ?? 0);
if (failed > 0 || (totals.get('pass') ?? 0) === 0) process.exitCode = 1;
