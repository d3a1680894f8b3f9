import assert from 'node:assert/strict';
import { test } from 'node:test';
import { patchGlue } from './glue-patches.ts';

test('glue of a component that never waits stays as it is', () => {
  assert.equal(patchGlue('export function instantiate() {}', 'x'), 'export function instantiate() {}');
});

test('glue in which the place of a patch is not found is refused', () => {
  assert.throws(() => patchGlue('function _suspendingImport() { changed(); }', 'component "c"'), {
    code: 'internal',
    message: /component "c".* reinstall/,
  });
});

test('a rejected wait is passed on', () => {
  assert.equal(
    patchGlue('catch (err) { return task.completionPromise(); }', 'x'),
    'catch (err) { throw err; }',
  );
});
