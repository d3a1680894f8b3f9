import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTarget, withoutQuery } from './request-target.ts';

/** [url, :authority, Host fields, authority and path expected or undefined]. */
type Row = readonly [string, string | undefined, readonly string[], readonly [string, string] | undefined];

const rows: readonly Row[] = [
  ['/', undefined, ['a.b'], ['a.b', '/']],
  ['/x?y=1', undefined, ['a.b:8080'], ['a.b:8080', '/x?y=1']],
  ['/', undefined, [], undefined],
  ['/', undefined, [''], undefined],
  ['/', undefined, ['a', 'a'], undefined],
  ['/', undefined, ['a b'], undefined],
  ['/', undefined, ['a/b'], undefined],
  ['/', undefined, ['user@a'], undefined],
  ['/', undefined, ['[::1]:80'], ['[::1]:80', '/']],
  ['/', 'a', [], ['a', '/']],
  ['/', 'a', ['a'], ['a', '/']],
  ['/', 'a', ['A'], ['A', '/']],
  ['/', 'a', ['b'], undefined],
  ['/', '', [], undefined],
  ['http://a/x?y', undefined, ['a'], ['a', '/x?y']],
  ['http://a/x', undefined, [], ['a', '/x']],
  ['http://a', undefined, ['a'], ['a', '/']],
  ['http://a?x', undefined, ['a'], undefined],
  ['http://a/', undefined, ['b'], undefined],
  ['http://u@a/', undefined, ['a'], undefined],
  ['http:///x', undefined, ['a'], ['a', '/x']],
  ['/http://b/', undefined, ['a'], ['a', '/http://b/']],
  ['*', undefined, ['a'], ['a', '*']],
  ['a:80', undefined, ['a:80'], undefined],
  ['x', undefined, ['a'], undefined],
];

test('a target is the host that all parts of the request agree on, and the path', () => {
  for (const [url, authority, hosts, expected] of rows) {
    const target = parseTarget({ url, authority, hosts });
    const found = target === undefined ? undefined : [target.authority, target.pathWithQuery];
    assert.deepEqual(found, expected, JSON.stringify([url, authority, hosts]));
  }
});

test('the path ends at the first question mark', () => {
  assert.equal(withoutQuery('/a?b?c'), '/a');
  assert.equal(withoutQuery('/a'), '/a');
});
