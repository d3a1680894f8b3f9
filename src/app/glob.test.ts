import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Glob } from './glob.ts';

const cases: readonly (readonly [pattern: string, matching: readonly string[], other: readonly string[]])[] =
  [
    ['a.txt', ['a.txt'], ['A.txt', 'aXtxt', 'x/a.txt', 'a.txt/x']],
    ['*.txt', ['a.txt', '.txt', '.hidden.txt'], ['a.txt.gz', 'x/a.txt', 'txt']],
    ['a?c', ['abc', 'a?c', 'aéc', 'a😀c'], ['ac', 'abbc', 'a/c']],
    ['**/*', ['a', 'a/b', 'a/b/c', '.x/y'], []],
    ['**', ['a', 'a/b'], []],
    ['static/**/*', ['static/a', 'static/a/b'], ['static', 'statica/b', 'x/static/a']],
    ['**/b', ['b', 'a/b', 'a/a/b'], ['bb', 'b/a']],
    ['a/**/b/**/c', ['a/b/c', 'a/x/b/c', 'a/b/y/z/c', 'a/x/b/y/c'], ['a/c', 'a/b', 'b/c']],
    ['[a-c]x', ['ax', 'bx', 'cx'], ['dx', 'x', '-x']],
    ['[!a-c]x', ['dx', '-x'], ['ax', 'x']],
    ['[]a]', [']', 'a'], ['b', ']a']],
    ['[!]a]', ['b'], [']', 'a']],
    ['[a-]', ['a', '-'], ['b']],
    ['[*]', ['*'], ['a']],
    ['./a//b', ['a/b'], ['./a/b']],
    ['a/../b', ['b'], ['a/b']],
    ['*', ['a', '__proto__'], ['a/b']],
    ['*a*b*', ['ab', 'xaybz'], ['ba', 'a', 'b']],
  ];

for (const [pattern, matching, other] of cases) {
  test(`glob ${pattern}`, () => {
    const glob = Glob.parse(pattern);
    for (const path of matching) assert.equal(glob.matches(path), true, path);
    for (const path of other) assert.equal(glob.matches(path), false, path);
  });
}

test('exclude patterns cross folders', () => {
  assert.equal(Glob.parse('*.map').matchesAcrossFolders('a/b.map'), true);
  assert.equal(Glob.parse('a/*.map').matchesAcrossFolders('a/b/c.map'), true);
  assert.equal(Glob.parse('**/x').matchesAcrossFolders('x'), true);
  assert.equal(Glob.parse('a/*.map').matchesAcrossFolders('b/c.map'), false);
});

test('malformed patterns are refused', () => {
  for (const pattern of ['a**', '**b', '***', 'a/b**/c', '[a', '[', '[]', '[!]']) {
    assert.throws(() => Glob.parse(pattern), /file pattern/, pattern);
  }
});

test('a hostile pattern and name take polynomial work', () => {
  // Backtracking over every star would need some 10^80 steps for these.
  const stars = Glob.parse(`${'*a'.repeat(100)}*b`);
  assert.equal(stars.matches('a'.repeat(255)), false);
  const folders = Glob.parse(`${'**/a/'.repeat(100)}b`);
  assert.equal(folders.matches('a/'.repeat(400)), false);
  assert.equal(stars.matchesAcrossFolders('a/'.repeat(2000)), false);
});

test('a walk stops where nothing below can match', () => {
  const glob = Glob.parse('a/b/*');
  assert.equal(glob.step(glob.start(), 'x').length, 0);
  const inside = glob.step(glob.step(glob.start(), 'a'), 'b');
  assert.equal(inside.length > 0 && !glob.accepts(inside), true);
  assert.equal(glob.accepts(glob.step(inside, 'c')), true);
});
