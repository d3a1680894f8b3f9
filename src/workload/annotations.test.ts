import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unknownAnnotations } from './annotations.ts';

function linesOf(...names: readonly string[]): readonly string[] {
  return unknownAnnotations({ annotations: new Map(names.map((name) => [name, 'value'])) });
}

test('annotations of ours that are known, and those of others, are no matter', () => {
  assert.deepEqual(linesOf('spin.shim/files', 'spin.shim/sandbox', 'other/files', 'spin.shimmer/x'), []);
});

test('one that is not known is told with those that are, and the nearest of them', () => {
  const [typo = '', strange = '', ...more] = linesOf('spin.shim/flies', 'spin.shim/isolation\n');
  assert.match(
    typo,
    /"spin\.shim\/flies" .*"spin\.shim\/files", "spin\.shim\/sandbox"; did you mean "spin\.shim\/files"\?$/,
  );
  assert.match(strange, /"spin\.shim\/isolation\\n" .*"spin\.shim\/sandbox"$/);
  assert.deepEqual(more, []);
});
