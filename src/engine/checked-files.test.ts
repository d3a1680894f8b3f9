import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CheckedFiles } from './checked-files.ts';
import { codePathOf } from './code-store.ts';
import type { PreparedApp } from './prepared-app.ts';

function appOf(...names: readonly string[]): PreparedApp {
  return {
    app: { name: 'a', variables: [], triggers: [], components: [] },
    components: names.map((id) => ({ id, entryPath: `/store/components/${id}`, digest: 'sha256:0' })),
  };
}

const entry = (name: string): string => `/store/components/${name}`;

test('an app is given what was told of its entries and their code last, whichever app it was told for', () => {
  const files = new CheckedFiles();
  const code = codePathOf(entry('one'));
  files.note(appOf('one', 'two'), [
    { path: entry('one'), identity: 'old' },
    { path: code, identity: 'code' },
    { path: entry('two'), identity: 'two' },
  ]);
  files.note(appOf('one'), [{ path: entry('one'), identity: 'new' }]);
  assert.deepEqual(files.of(appOf('one')), [
    { path: entry('one'), identity: 'new' },
    { path: code, identity: 'code' },
  ]);
  assert.deepEqual(files.of(appOf('three')), []);
});

test('nothing is believed of files that are not of the app it is told for', () => {
  const files = new CheckedFiles();
  files.note(appOf('one'), [{ path: entry('two'), identity: 'forged' }]);
  assert.deepEqual(files.of(appOf('two')), []);
});

test('of more files than are remembered those told of first are forgotten', () => {
  const files = new CheckedFiles();
  const tell = (name: string): void => files.note(appOf(name), [{ path: entry(name), identity: name }]);
  for (let index = 0; index < 2048; index += 1) tell(`c${index}`);
  tell('c0');
  assert.equal(files.of(appOf('c1')).length, 1);
  tell('one more');
  assert.deepEqual(
    ['c0', 'c1', 'c2', 'one more'].map((name) => files.of(appOf(name)).length),
    [1, 0, 1, 1],
  );
});
