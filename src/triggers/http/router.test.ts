import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HttpTrigger } from '../../app/types.ts';
import { Router } from './router.ts';

function trigger(path: string, id = path): HttpTrigger {
  return {
    type: 'http',
    id,
    route: { kind: 'path', path },
    target: { kind: 'component', component: 'c' },
    executor: { type: 'http' },
  };
}

/** [routes, path, route that matches or undefined, path info, params] as in reference/spin.md 3.1.1. */
type Row = readonly [string[], string, string | undefined, string?, Record<string, string>?];

const rows: readonly Row[] = [
  [['/foo'], '/foo', '/foo', ''],
  [['/foo'], '/foo/', '/foo', ''],
  [['/foo'], '/foo//', '/foo', ''],
  [['/foo'], '//foo', '/foo', ''],
  [['/foo'], '/Foo', undefined],
  [['/foo'], '/fo%6f', undefined],
  [['/foo'], '/foo/bar', undefined],
  [['foo'], '/foo', 'foo', ''],
  [['/foo/...'], '/foo', '/foo/...', ''],
  [['/foo/...'], '/foo/', '/foo/...', '/'],
  [['/foo/...'], '/foo/a', '/foo/...', '/a'],
  [['/foo/...'], '/foo/a/', '/foo/...', '/a/'],
  [['/foo/...'], '/foo//a', '/foo/...', '//a'],
  [['/foo/...'], '/foobar', undefined],
  [['/foo/*'], '/foo/a', '/foo/*', '/a'],
  [['/...'], '/', '/...', '/'],
  [['/...'], '/a//b', '/...', '/a//b'],
  [['/users/:id'], '/users/a.b', '/users/:id', '', { id: 'a.b' }],
  [['/users/:id'], '/users/a%20b', '/users/:id', '', { id: 'a%20b' }],
  [['/users/:id'], '/users/1/', '/users/:id', '', { id: '1' }],
  [['/users/:id'], '/users', undefined],
  [['/users/:id'], '/users/1/x', undefined],
  [['/users/:id/...'], '/users/1', '/users/:id/...', '', { id: '1' }],
  [['/users/:id/...'], '/users/1/', '/users/:id/...', '/', { id: '1' }],
  [['/users/:id/...'], '/users/1/x', '/users/:id/...', '/x', { id: '1' }],
  [['/a/:p.json'], '/a/x.json', '/a/:p.json', '', { p: 'x' }],
  [['/a/:p.json'], '/a/x', undefined],
  [['/:f.:e'], '/a.b.c', '/:f.:e', '', { f: 'a', e: 'b.c' }],
  [['/a/b/...', '/a/:id/c'], '/a/b/c', '/a/b/...', '/c'],
  [['/a/b/...', '/a/:id/c'], '/a/x/d', undefined],
  [['/:x/a', '/b/:y'], '/b/a', '/b/:y', '', { y: 'a' }],
  [['/one/...', '/one/two/...', '/one/two/three/...'], '/one/two/three/x', '/one/two/three/...', '/x'],
  [['/one/two/three/...', '/one/...', '/one/two/...'], '/one/two/x', '/one/two/...', '/x'],
  [['/a', '/a/...'], '/a', '/a', ''],
  [['/a', '/a/...'], '/a/', '/a', ''],
  [['/a/...', '/a'], '/a', '/a', ''],
  [['/x', '/x/'], '/x', '/x', ''],
  [['/x/:a', '/x/:b'], '/x/1', '/x/:a', '', { a: '1' }],
  [['/u/:id/:id'], '/u/1/2', '/u/:id/:id', '', { id: '2' }],
  [['/a...b'], '/a...b', '/a...b', ''],
  [['/__proto__/:constructor'], '/__proto__/x', '/__proto__/:constructor', '', { constructor: 'x' }],
];

for (const [routes, path, expected, pathInfo, params] of rows) {
  test(`${routes.join(' ')} ← ${path} is ${expected ?? 'not found'}`, () => {
    const found = new Router(routes.map((route) => trigger(route))).route(path);
    assert.equal(found?.route.pattern.raw, expected);
    if (expected === undefined) return;
    assert.equal(found?.pathInfo, pathInfo);
    if (params !== undefined) assert.deepEqual(Object.fromEntries(found?.params ?? []), params);
  });
}

test('exact beats param beats wildcard from the left', () => {
  const router = new Router(['/:a/:b', '/:a/x', '/x/:b', '/x/x', '/...'].map((route) => trigger(route)));
  const raw = (path: string): string | undefined => router.route(path)?.route.pattern.raw;
  assert.equal(raw('/x/x'), '/x/x');
  assert.equal(raw('/x/y'), '/x/:b');
  assert.equal(raw('/y/x'), '/:a/x');
  assert.equal(raw('/y/z'), '/:a/:b');
  assert.equal(raw('/y'), '/...');
  assert.equal(raw('/x/y/z'), '/...');
});

test('of two triggers with the same route the later one wins and a warning names the other', () => {
  const router = new Router([trigger('/a', 'first'), trigger('/a', 'second')]);
  assert.equal(router.route('/a')?.route.trigger.id, 'second');
  assert.match(router.warnings[0] ?? '', /"first".*"second"/);
});

test('a route below /.well-known/spin/ is named in a warning', () => {
  assert.match(new Router([trigger('/.well-known/spin/x')]).warnings[0] ?? '', /well-known/);
});

test('private routes are not routable', () => {
  const router = new Router([{ ...trigger('/'), route: { kind: 'private' } }]);
  assert.equal(router.route('/'), undefined);
});

for (const bad of ['/:', '/a/*name', '/a/*/b']) {
  test(`route ${bad} is refused`, () => {
    assert.throws(() => new Router([trigger(bad)]), { code: 'invalid-manifest' });
  });
}
