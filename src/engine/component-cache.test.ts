import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ComponentCache, readCacheEntry } from './component-cache.ts';
import type { Transpiled } from './transpile.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const transpiled: Transpiled = {
  glue: Buffer.from('export const instantiate = 1;'),
  coreModules: [['a.core.wasm', Buffer.from('module')]],
  imports: ['wasi:io/poll'],
  exports: ['x'],
};

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'cache-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('an entry is there after put, readable by its owner only', async (t) => {
  const cache = new ComponentCache(await folder(t), ['1']);
  assert.equal(await cache.has(digest), false);
  await cache.put(digest, transpiled);
  assert.equal(await cache.has(digest), true);
  const path = cache.pathOf(digest);
  assert.deepEqual(await readCacheEntry(path), {
    imports: ['wasi:io/poll'],
    exports: ['x'],
    coreModules: ['a.core.wasm'],
    form: { kind: 'glue' },
  });
  assert.equal((await stat(path)).mode & 0o777, 0o700);
  for (const name of await readdir(path)) assert.equal((await stat(join(path, name))).mode & 0o777, 0o600);
});

test('other inputs make another entry', async (t) => {
  const store = await folder(t);
  await new ComponentCache(store, ['1']).put(digest, transpiled);
  assert.equal(await new ComponentCache(store, ['2']).has(digest), false);
});

test('of many writers of one entry all succeed and nothing is left over', async (t) => {
  const store = await folder(t);
  const caches = Array.from({ length: 8 }, () => new ComponentCache(store, ['1']));
  await Promise.all(caches.map((cache) => cache.put(digest, transpiled)));
  assert.equal((await readdir(join(store, 'components'))).length, 1);
});

test('half an entry, left by a crash, is no entry and does not stop the next one', async (t) => {
  const store = await folder(t);
  const cache = new ComponentCache(store, ['1']);
  const path = cache.pathOf(digest);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'component.mjs'), 'half');
  assert.equal(await cache.has(digest), false);
  await cache.put(digest, transpiled);
  assert.equal(await cache.has(digest), true);
  assert.equal(await readFile(join(path, 'component.mjs'), 'utf8'), 'export const instantiate = 1;');
});

test('drafts that a killed preparer left are removed in time, fresh ones are not', async (t) => {
  const store = await folder(t);
  const cache = new ComponentCache(store, ['1'], { draftLifeMs: 1_000 });
  const [old, fresh] = [join(store, 'components', '.old'), join(store, 'components', '.fresh')];
  await mkdir(old, { recursive: true });
  await mkdir(fresh);
  await utimes(old, 1, 1);
  await cache.put(digest, transpiled);
  const names = await readdir(join(store, 'components'));
  assert.deepEqual(
    names.filter((name) => name.startsWith('.')),
    ['.fresh'],
  );
});

test('a core module of a name that leaves the entry is refused', async (t) => {
  const cache = new ComponentCache(await folder(t), ['1']);
  for (const name of ['../x.wasm', 'a/b.wasm', '..', '']) {
    await assert.rejects(cache.put(digest, { ...transpiled, coreModules: [[name, Buffer.from('m')]] }), {
      code: 'internal',
    });
  }
  assert.equal(await cache.has(digest), false);
});

test('a digest that is none has no place in the cache', async (t) => {
  const cache = new ComponentCache(await folder(t), ['1']);
  for (const bad of [
    'sha256:../../x',
    'sha256:',
    'a',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
  ])
    assert.throws(() => cache.pathOf(bad), { code: 'invalid-argument' });
});

test('a directory that is no entry is named in the error', async (t) => {
  const path = await folder(t);
  await assert.rejects(readCacheEntry(path), { code: 'internal', message: new RegExp(RegExp.escape(path)) });
  await writeFile(join(path, 'entry.json'), '{"imports": 1}');
  await assert.rejects(readCacheEntry(path), { code: 'internal' });
});
