import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFile,
  chmod,
  chown,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ComponentCache, openCacheEntry } from './component-cache.ts';
import { type EntryContent, entryOf } from './component-entry.ts';
import { type CheckedFile, sealKeyPath } from './sealed-file.ts';
import { temporaryFolder } from './test-engine.ts';

const digest = digestOf('component');
const other = digestOf('another');

function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

function contentOf(text: string): EntryContent {
  return entryOf({
    glue: text,
    reason: 'it is composed',
    coreModules: [['a.core.wasm', Buffer.from('module')]],
    imports: ['wasi:io/poll'],
    exports: ['x'],
  });
}

const content = contentOf('export const instantiate = 1;');
/** Opens an entry as an engine does, and holds its content against what it is to be. */
function assertContent(path: string, expected: EntryContent, known?: CheckedFile): CheckedFile | undefined {
  const { content: found, file } = openCacheEntry(path, digest, known);
  assert.deepEqual(found, expected);
  file.release();
  return file.checked;
}

const unexpected = (): Promise<never> => Promise.reject(new Error('made again'));

/** A store with an entry, and what was said about it. */
async function filledStore(t: TestContext): Promise<{
  store: string;
  path: string;
  cache: ComponentCache;
  checked: CheckedFile[];
  warnings: string[];
}> {
  const store = await temporaryFolder(t);
  const [checked, warnings]: [CheckedFile[], string[]] = [[], []];
  const cache = new ComponentCache(store, ['1'], {
    warn: (line) => warnings.push(line),
    checked: (file) => checked.push(file),
  });
  await cache.ensure(digest, async () => content);
  return { store, path: cache.pathOf(digest), cache, checked, warnings };
}

test('an entry is made once, is one file that only its owner can touch, and reads back as it was', async (t) => {
  const { store, path, cache, warnings } = await filledStore(t);
  await cache.ensure(digest, unexpected);
  assertContent(path, content);
  assert.equal((await stat(join(store, 'components'))).mode & 0o777, 0o700);
  assert.deepEqual(await readdir(join(store, 'components')), [path.slice(path.lastIndexOf('/') + 1)]);
  for (const file of [path, sealKeyPath(store)]) assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.deepEqual(warnings, []);
});

test('other inputs make another entry', async (t) => {
  const { store } = await filledStore(t);
  assert.equal(await new ComponentCache(store, ['2']).has(digest), false);
});

/** What may stand where an entry was: each must never run, be told of, and be made again. */
const damages: readonly (readonly [
  name: string,
  damage: (path: string, store: string) => Promise<unknown>,
  reason: RegExp,
])[] = [
  ['cut by a byte', async (path) => truncate(path, (await stat(path)).size - 1), /seal/],
  ['cut to nothing', (path) => truncate(path, 0), /ends in the middle/],
  ['longer by a byte', (path) => appendFile(path, 'x'), /seal/],
  [
    'with one bit turned',
    async (path) => {
      const bytes = await readFile(path);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await writeFile(path, bytes);
    },
    /seal/,
  ],
  ['that is garbage', (path) => writeFile(path, '{"imports": 1}'.repeat(10)), /seal/],
  ['that is a folder of files', (path) => rm(path).then(() => mkdir(path)), /no plain file/],
  [
    'that is a symbolic link to a good one',
    (path) => rename(path, `${path}.x`).then(() => symlink(`${path}.x`, path)),
    /symbolic link/,
  ],
  ['that others can read', (path) => chmod(path, 0o644), /mode 644/],
  ['that others can write', (path) => chmod(path, 0o602), /mode 602/],
  [
    'sealed with another key',
    async (path, store) => {
      const elsewhere = join(store, 'elsewhere');
      await mkdir(elsewhere);
      const planted = new ComponentCache(elsewhere, ['1']);
      await planted.ensure(digest, async () => contentOf('planted'));
      await copyFile(planted.pathOf(digest), path);
    },
    /seal/,
  ],
  [
    'swapped for that of another component',
    async (path, store) => {
      const cache = new ComponentCache(store, ['1']);
      await cache.ensure(other, async () => contentOf('another'));
      await rm(path);
      await link(cache.pathOf(other), path);
    },
    /seal/,
  ],
];

for (const [name, damage, reason] of damages) {
  test(`an entry ${name} is not run; it is made again with a warning`, async (t) => {
    const { store, path, cache, checked, warnings } = await filledStore(t);
    const known = checked.at(-1);
    assert.ok(known !== undefined);
    await damage(path, store);
    // Nor by one who knows that it was right before.
    for (const before of [undefined, known])
      assert.throws(() => openCacheEntry(path, digest, before), { code: 'data-loss', message: reason });
    await cache.ensure(digest, async () => content);
    assert.equal(warnings.length, 1, warnings.join());
    assert.match(warnings[0] ?? '', reason);
    assertContent(path, content);
  });
}

test('an entry that is made, found or opened is known from then on, as long as nothing touches it', async (t) => {
  const { path, cache, checked } = await filledStore(t);
  assert.equal(await cache.has(digest), true);
  const [made, found] = checked;
  assert.ok(made !== undefined);
  assert.deepEqual(found, made);
  assert.deepEqual(assertContent(path, content), made);
  assert.deepEqual(assertContent(path, content, made), made);
  await chmod(path, 0o600);
  const now = assertContent(path, content, made);
  assert.notEqual(now?.identity, made.identity);
  assert.deepEqual(assertContent(path, content, now), now);
});

test('the seal of a file that is known is not checked, that of any other file is', async (t) => {
  const { store, path, checked } = await filledStore(t);
  const [known] = checked;
  // Without its key no seal is right.
  await rm(sealKeyPath(store));
  assertContent(path, content, known);
  assert.throws(() => openCacheEntry(path, digest, { identity: known?.identity ?? '', path: `${path}x` }), {
    code: 'data-loss',
  });
  await copyFile(path, `${path}.x`);
  await rename(`${path}.x`, path);
  assert.throws(() => openCacheEntry(path, digest, known), { code: 'data-loss' });
});

test('an entry of another user is not run', { skip: process.getuid?.() !== 0 }, async (t) => {
  const { path, cache, warnings } = await filledStore(t);
  await chown(path, 65534, 65534);
  assert.throws(() => openCacheEntry(path, digest), { code: 'data-loss', message: /user 65534/ });
  await cache.ensure(digest, async () => content);
  assert.equal(warnings.length, 1);
  assertContent(path, content);
});

test('an entry that is gone, or of another digest than asked for, has to be made again', async (t) => {
  const { path, cache } = await filledStore(t);
  assert.throws(() => openCacheEntry(path, other), { code: 'data-loss', message: /is not of/ });
  await rm(path);
  assert.throws(() => openCacheEntry(path, digest), { code: 'data-loss', message: /does not exist/ });
  assert.equal(await cache.has(digest), false);
});

for (const [name, replace] of [
  [
    'a symbolic link',
    (folder: string) => rename(folder, `${folder}.x`).then(() => symlink(`${folder}.x`, folder)),
  ],
  ['a file', (folder: string) => rm(folder, { recursive: true }).then(() => writeFile(folder, ''))],
  ['open to others', (folder: string) => chmod(folder, 0o755)],
] as const) {
  test(`a folder of entries that is ${name} is replaced with a warning`, async (t) => {
    const { store, path } = await filledStore(t);
    await replace(join(store, 'components'));
    const warnings: string[] = [];
    const cache = new ComponentCache(store, ['1'], { warn: (line) => warnings.push(line) });
    await cache.ensure(digest, async () => content);
    assert.equal(warnings.length, 1);
    assertContent(path, content);
    const info = await stat(join(store, 'components'));
    assert.equal(info.mode & 0o777, 0o700);
  });
}

for (const [name, damage] of [
  ['gone', (key: string) => rm(key)],
  ['readable by others', (key: string) => chmod(key, 0o640)],
  ['short', (key: string) => truncate(key, 31)],
  ['a symbolic link', (key: string) => rename(key, `${key}.x`).then(() => symlink(`${key}.x`, key))],
] as const) {
  test(`a key that is ${name} is made anew, and what it sealed counts no more`, async (t) => {
    const { store, path } = await filledStore(t);
    await damage(sealKeyPath(store));
    assert.throws(() => openCacheEntry(path, digest), { code: 'data-loss' });
    const warnings: string[] = [];
    const cache = new ComponentCache(store, ['1'], { warn: (line) => warnings.push(line) });
    await cache.ensure(digest, async () => content);
    assert.equal(warnings.length, name === 'gone' ? 1 : 2, warnings.join());
    assertContent(path, content);
  });
}

test('what is used least recently goes when entries have more bytes than they may; the newest stays', async (t) => {
  const store = await temporaryFolder(t);
  const digests = ['1', '2', '3'].map(digestOf);
  const roomy = new ComponentCache(store, ['1']);
  for (const each of digests) await roomy.ensure(each, async () => content);
  const bytes = (await stat(roomy.pathOf(digests[0] ?? ''))).size;
  for (const [index, each] of digests.entries()) await utimes(roomy.pathOf(each), 1000, 1000 + index);
  // The oldest is used again by an engine.
  openCacheEntry(roomy.pathOf(digests[0] ?? ''), digests[0] ?? '').file.release();

  const kept = async (maxBytes: number): Promise<readonly boolean[]> => {
    const newest = digestOf(String(maxBytes));
    const cache = new ComponentCache(store, ['1'], { maxBytes });
    await cache.ensure(newest, async () => content);
    const present = await Promise.all([...digests, newest].map((each) => cache.has(each)));
    await rm(cache.pathOf(newest));
    return present;
  };
  assert.deepEqual(await kept(4 * bytes), [true, true, true, true], 'at the limit');
  for (const [index, each] of digests.entries())
    await utimes(roomy.pathOf(each), 1000, index === 0 ? 2000 : 1000 + index);
  assert.deepEqual(await kept(4 * bytes - 1), [true, false, true, true], 'one byte less');
  assert.deepEqual(await kept(0), [false, false, false, true], 'nothing but the newest');
});

test('drafts that a killed preparer left are removed in time, fresh ones are not, nor is anything else kept', async (t) => {
  const store = await temporaryFolder(t);
  const cache = new ComponentCache(store, ['1'], { draftLifeMs: 60_000 });
  const folder = join(store, 'components');
  await mkdir(join(folder, 'sha256-of-an-older-version'), { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  await writeFile(join(folder, '.old'), '');
  await writeFile(join(folder, '.fresh'), '');
  await utimes(join(folder, '.old'), 1, 1);
  await cache.ensure(digest, async () => content);
  const path = cache.pathOf(digest);
  assert.deepEqual((await readdir(folder)).sort(), ['.fresh', path.slice(path.lastIndexOf('/') + 1)]);
});

test('a digest that is none has no place in the cache', async (t) => {
  const cache = new ComponentCache(await temporaryFolder(t), ['1']);
  for (const bad of [
    'sha256:../../x',
    'sha256:',
    'a',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
  ])
    assert.throws(() => cache.pathOf(bad), { code: 'invalid-argument' });
});

test('a preparation that fails leaves nothing and holds nobody up', async (t) => {
  const { store, cache } = await filledStore(t);
  await assert.rejects(cache.ensure(other, unexpected), /made again/);
  await cache.ensure(other, async () => content);
  assert.equal((await readdir(join(store, 'components'))).length, 2);
});
