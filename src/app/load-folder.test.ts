import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ShimError } from '../error.ts';
import { copyAssets } from './asset-copy.ts';
import { defaultAssetLimits, planAssets } from './asset-plan.ts';
import { AssetRoot, maxSymlinks } from './asset-root.ts';
import { type LoadFolderOptions, loadFromFolder } from './load-folder.ts';

/** Makes a folder with `root` (files by path; a value `-> x` is a link) and an empty work folder beside it. */
async function makeFolder(t: TestContext, files: Readonly<Record<string, string>>) {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'load-folder-')));
  t.after(() => rm(base, { recursive: true }));
  await mkdir(join(base, 'work'));
  for (const [path, content] of Object.entries(files)) {
    const target = join(base, 'root', path);
    await mkdir(dirname(target), { recursive: true });
    if (content.startsWith('-> '))
      await symlink(content.slice(3).replace('$ROOT', join(base, 'root')), target);
    else await writeFile(target, content);
  }
  const load = (mode: LoadFolderOptions['mode']) =>
    loadFromFolder(join(base, 'root/spin.toml'), { workDir: join(base, 'work'), mode });
  return { base, root: join(base, 'root'), work: join(base, 'work'), load };
}

const manifest = (component: string): string => `spin_manifest_version = 2
[application]
name = "app"
[[trigger.http]]
route = "/..."
component = "web"
[component.web]
${component}
`;

const filesManifest = (files: string): string => manifest(`source = "web.wasm"\nfiles = ${files}`);

async function tree(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .toSorted();
}

const rejectsWith = (promise: Promise<unknown>, code: string, message: RegExp): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof ShimError, String(error));
    assert.match(error.message, message);
    assert.equal(error.code, code);
    return true;
  });

test('a project is loaded with digests and copied files', async (t) => {
  const { root, work, load } = await makeFolder(t, {
    'spin.toml': filesManifest(
      '["static/**/*.txt", "one.md", "folder", { source = "dist", destination = "/site" }]\nexclude_files = ["*/secret*"]',
    ),
    'web.wasm': 'wasm',
    'static/a.txt': 'a',
    'static/b/c.txt': 'c',
    'static/b/c.png': 'no',
    'static/secret.txt': 'no',
    'one.md': 'one',
    'folder/.hidden': 'h',
    'folder/x/y': 'y',
    'dist/index.html': 'html',
  });
  const app = await load('copy');
  const digest = `sha256:${createHash('sha256').update('wasm').digest('hex')}`;
  assert.deepEqual(app.components[0]?.source, { path: join(root, 'web.wasm'), digest });
  const copied = join(work, 'assets/web');
  assert.deepEqual(app.components[0]?.files, [{ source: copied, destination: '/' }]);
  assert.deepEqual(await tree(copied), [
    'folder/.hidden',
    'folder/x/y',
    'one.md',
    'site/index.html',
    'static/a.txt',
    'static/b/c.txt',
  ]);
  assert.equal(await readFile(join(copied, 'static/b/c.txt'), 'utf8'), 'c');
  assert.equal((await stat(join(copied, 'one.md'))).mode & 0o777, 0o644);
});

test('a source beside the project is found in copy mode only', async (t) => {
  const { base, load } = await makeFolder(t, { 'spin.toml': manifest('source = "../target/web.wasm"') });
  await mkdir(join(base, 'target'));
  await writeFile(join(base, 'target/web.wasm'), 'x');
  assert.equal((await load('copy')).components[0]?.source.path, join(base, 'target/web.wasm'));
  await rejectsWith(load('direct'), 'permission-denied', /leads out of folder/);
});

test('a missing source names component, path and build command', async (t) => {
  const built = await makeFolder(t, {
    'spin.toml': manifest('source = "web.wasm"\nbuild = { command = ["npm ci", "npm run build"] }'),
  });
  for (const mode of ['copy', 'direct'] as const) {
    await rejectsWith(
      built.load(mode),
      'not-found',
      /component "web": source "web.wasm" does not exist in ".*"; build it with "npm ci && npm run build"/,
    );
  }
  const plain = await makeFolder(t, { 'spin.toml': manifest('source = "web.wasm"'), 'web.wasm/x': 'folder' });
  await rejectsWith(plain.load('copy'), 'not-found', /build the component, or correct "source"/);
});

test('a missing manifest is named', async (t) => {
  const { load } = await makeFolder(t, { other: '' });
  for (const mode of ['copy', 'direct'] as const)
    await rejectsWith(load(mode), 'not-found', /manifest ".*" does not exist/);
});

test('sources that would be fetched are unsupported', async (t) => {
  const url = await makeFolder(t, {
    'spin.toml': manifest(`source = { url = "https://x/y", digest = "sha256:${'0'.repeat(64)}" }`),
  });
  await rejectsWith(url.load('copy'), 'unsupported', /component "web": its source is a URL/);
  const registry = await makeFolder(t, {
    'spin.toml': manifest('source = { package = "a:b", version = "1.0.0" }'),
  });
  await rejectsWith(registry.load('direct'), 'unsupported', /its source is package "a:b"/);
});

test('in direct mode directories are mounted where they are', async (t) => {
  const { root, work, load } = await makeFolder(t, {
    'spin.toml': filesManifest(
      '[{ source = "static", destination = "/static" }, { source = "/abs", destination = "/" }]',
    ),
    'web.wasm': 'x',
    'static/a': 'a',
    'abs/b': 'b',
  });
  assert.deepEqual((await load('direct')).components[0]?.files, [
    { source: join(root, 'static'), destination: '/static' },
    { source: join(root, 'abs'), destination: '/' },
  ]);
  assert.deepEqual(await readdir(work), []);
});

test('in direct mode patterns and single files are copied', async (t) => {
  const { work, load } = await makeFolder(t, {
    'spin.toml': filesManifest(
      '["*.txt", { source = "/etc/conf", destination = "/c" }, { source = "d", destination = "/d" }]',
    ),
    'web.wasm': 'x',
    'a.txt': 'a',
    'etc/conf': 'c',
    'd/e': 'e',
  });
  const copied = join(work, 'assets/web');
  assert.deepEqual((await load('direct')).components[0]?.files, [{ source: copied, destination: '/' }]);
  assert.deepEqual(await tree(copied), ['a.txt', 'c', 'd/e']);
});

const escapes: readonly (readonly [name: string, files: Readonly<Record<string, string>>])[] = [
  ['relative link to a file', { 'spin.toml': filesManifest('["x"]'), 'web.wasm': 'x', x: '-> ../outside' }],
  [
    'link among matches',
    { 'spin.toml': filesManifest('["s/*"]'), 'web.wasm': 'x', 's/x': '-> ../../outside' },
  ],
  ['link to a folder outside', { 'spin.toml': filesManifest('["s/**/*"]'), 'web.wasm': 'x', s: '-> ..' }],
  [
    'link through another',
    { 'spin.toml': filesManifest('["x"]'), 'web.wasm': 'x', x: '-> y/../z', 'y/k': '', z: '-> ../outside' },
  ],
  [
    'mounted folder',
    { 'spin.toml': filesManifest('[{ source = "s", destination = "/" }]'), 'web.wasm': 'x', s: '-> ../work' },
  ],
];

for (const [name, files] of escapes) {
  test(`files never follow a link out of the folder: ${name}`, async (t) => {
    const { base, work, load } = await makeFolder(t, files);
    await writeFile(join(base, 'outside'), 'secret');
    for (const mode of ['copy', 'direct'] as const) {
      await rejectsWith(load(mode), 'permission-denied', /leads out of folder/);
    }
    assert.deepEqual(await tree(work), []);
  });
}

test('in direct mode neither manifest nor source may be a link that leaves', async (t) => {
  const source = await makeFolder(t, {
    'spin.toml': manifest('source = "web.wasm"'),
    'web.wasm': '-> ../outside',
  });
  await writeFile(join(source.base, 'outside'), 'x');
  await rejectsWith(source.load('direct'), 'permission-denied', /leads out/);
  assert.equal((await source.load('copy')).components[0]?.source.path, join(source.base, 'outside'));
  const toml = await makeFolder(t, { 'spin.toml': '-> ../outside', 'web.wasm': 'x' });
  await writeFile(join(toml.base, 'outside'), manifest('source = "web.wasm"'));
  await rejectsWith(toml.load('direct'), 'permission-denied', /leads out/);
  assert.equal((await toml.load('copy')).name, 'app');
});

test('absolute links start in the root of a container, and must lead back in a project', async (t) => {
  const files = { 'spin.toml': filesManifest('["x"]'), 'web.wasm': 'x', x: '-> /real', real: 'r' };
  const { work, load } = await makeFolder(t, files);
  await rejectsWith(load('copy'), 'permission-denied', /leads out/);
  await load('direct');
  assert.equal(await readFile(join(work, 'assets/web/x'), 'utf8'), 'r');
  const back = await makeFolder(t, { ...files, x: '-> $ROOT/real' });
  await back.load('copy');
  assert.equal(await readFile(join(back.work, 'assets/web/x'), 'utf8'), 'r');
});

test('links in circles end', async (t) => {
  const { root, work, load } = await makeFolder(t, {
    'spin.toml': filesManifest('["s/**/*"]'),
    'web.wasm': 'x',
    's/a': 'a',
    's/up': '-> ../s',
    's/d/top': '-> ../..',
  });
  await load('copy');
  assert.equal((await tree(join(work, 'assets/web'))).includes('s/a'), true);
  await symlink('loop', join(root, 'loop'));
  const asset = await AssetRoot.open(root, 'from-root');
  await rejectsWith(asset.locate('loop'), 'permission-denied', /more than 40 links/);
});

test('a chain of links is followed up to its limit', async (t) => {
  const { root } = await makeFolder(t, { l0: 'end' });
  for (let index = 1; index <= maxSymlinks + 1; index++)
    await symlink(`l${index - 1}`, join(root, `l${index}`));
  const asset = await AssetRoot.open(root, 'from-root');
  assert.equal((await asset.locate(`l${maxSymlinks}`))?.path, 'l0');
  await rejectsWith(asset.locate(`l${maxSymlinks + 1}`), 'permission-denied', /more than 40 links/);
});

test('paths that name nothing are nothing, and those that leave are refused', async (t) => {
  const { root } = await makeFolder(t, { 'a/b': 'x', file: 'f' });
  const asset = await AssetRoot.open(root, 'from-root');
  for (const path of ['c', 'a/c', 'file/x', 'file/..', 'a/b/../c'])
    assert.equal(await asset.locate(path), undefined, path);
  for (const path of ['..', 'a/../..', '../root']) {
    await rejectsWith(asset.locate(path), 'permission-denied', /leads out/);
  }
  assert.deepEqual(await asset.locate('./a//../a/b'), { kind: 'file', path: 'a/b', size: 1 });
  assert.deepEqual(await asset.locate(''), { kind: 'directory', path: '', size: 0 });
});

test('a link put in place of a located name is not followed', async (t) => {
  const { root } = await makeFolder(t, { 'a/b': 'x', 'evil/b': 'evil', 'a/l': '-> b' });
  const asset = await AssetRoot.open(root, 'from-root');
  const found = await asset.locate('a/b');
  assert.ok(found);
  await rm(join(root, 'a'), { recursive: true });
  await symlink('evil', join(root, 'a'));
  await rejectsWith(asset.openFile(found.path), 'permission-denied', /cannot be opened: (ELOOP|ENOTDIR)/);
});

test('counts and sizes are capped at their limits', async (t) => {
  const { root } = await makeFolder(t, { 's/a': 'aa', 's/b': 'bb' });
  const asset = await AssetRoot.open(root, 'of-machine');
  const grants = { include: [{ kind: 'pattern' as const, pattern: 's/*' }], exclude: [] };
  const plan = (limits: object) =>
    planAssets(asset, grants, async () => ({ root: asset, path: '' }), { ...defaultAssetLimits, ...limits });
  assert.equal((await plan({ maxFiles: 2, maxBytes: 4, maxEntries: 3 })).size, 2);
  await rejectsWith(plan({ maxFiles: 1 }), 'resource-exhausted', /more than 1 files/);
  await rejectsWith(plan({ maxBytes: 3 }), 'resource-exhausted', /more than 3 bytes/);
  await rejectsWith(plan({ maxEntries: 2 }), 'resource-exhausted', /names that may be looked at/);
});

test('a file that grew after planning is not copied, and a used folder is refused', async (t) => {
  const { root, work } = await makeFolder(t, { a: 'a' });
  const asset = await AssetRoot.open(root, 'of-machine');
  const grants = { include: [{ kind: 'pattern' as const, pattern: 'a' }], exclude: [] };
  const plan = await planAssets(asset, grants, async () => ({ root: asset, path: '' }));
  await writeFile(join(root, 'a'), 'aa');
  await rejectsWith(
    copyAssets(plan, join(work, 'x')),
    'resource-exhausted',
    /file "a" has more than 1 bytes/,
  );
  await rejectsWith(copyAssets(plan, join(work, 'x')), 'already-exists', /cannot be made/);
});

test('a file and a folder of one name clash', async (t) => {
  const { load } = await makeFolder(t, {
    'spin.toml': filesManifest(
      '[{ source = "a", destination = "/x" }, { source = "a", destination = "/x/y" }]',
    ),
    'web.wasm': 'x',
    a: 'a',
  });
  await rejectsWith(load('copy'), 'invalid-manifest', /component "web": file "x\/y" cannot be written/);
});

test('a granted source that is missing is named', async (t) => {
  const { load } = await makeFolder(t, {
    'spin.toml': filesManifest('[{ source = "nope", destination = "/x" }]'),
    'web.wasm': 'x',
  });
  for (const mode of ['copy', 'direct'] as const) {
    await rejectsWith(load(mode), 'not-found', /component "web": "files" source "nope" does not exist/);
  }
});
