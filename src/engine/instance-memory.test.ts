import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instanceMemoryLimit, pageBytes } from './instance-memory.ts';

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
    assert.equal(instanceMemoryLimit(environment, undefined)?.pages, pages, String(text));
  }
});

test("the container's limit is the ceiling, and the limit where none is set", () => {
  const set = [['SPIN_MAX_INSTANCE_MEMORY', '131072']] as const;
  const own = { pages: 2, text: '131072 bytes (SPIN_MAX_INSTANCE_MEMORY)' };
  const container = { pages: 1, text: "65537 bytes (the container's memory limit)" };
  assert.deepEqual(instanceMemoryLimit(set, 2 ** 30), own);
  assert.deepEqual(instanceMemoryLimit(set, 131_072), own);
  assert.deepEqual(instanceMemoryLimit(set, 65_537), container);
  assert.deepEqual(instanceMemoryLimit([], 65_537), container);
  assert.deepEqual(instanceMemoryLimit([['SPIN_MAX_INSTANCE_MEMORY', 'x']], 65_537), container);
  assert.equal(instanceMemoryLimit([], 2 ** 40), undefined);
});
