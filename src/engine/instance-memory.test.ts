import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instanceMemoryPages, pageBytes } from './instance-memory.ts';

test('the limit is counted in whole pages, and what is no number sets none', () => {
  const rows: readonly (readonly [string | undefined, number | undefined])[] = [
    [undefined, undefined],
    ['', undefined],
    ['64MiB', undefined],
    ['-1', undefined],
    ['0', 0],
    [String(pageBytes - 1), 0],
    [String(pageBytes), 1],
    [String(64 * 1024 * 1024), 1024],
    [String(2 ** 32), undefined],
    [String(2 ** 32 - 1), 65_535],
  ];
  for (const [text, pages] of rows) {
    const environment = text === undefined ? [] : ([['SPIN_MAX_INSTANCE_MEMORY', text]] as const);
    assert.equal(instanceMemoryPages(environment), pages, String(text));
  }
});
