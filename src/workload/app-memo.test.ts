import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import type { PreparedApp } from '../engine/prepared-app.ts';
import { AppMemo, maxKeptApps } from './app-memo.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-memo-'));
const store = join(folder, 'store');
after(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  rmSync(store, { recursive: true, force: true });
  mkdirSync(join(store, 'c'), { recursive: true });
});

/** An app of one component whose source is at `source`. */
function appAt(source: string): PreparedApp {
  const component = {
    id: 'c',
    source: { path: source, digest: 'sha256:0' },
    environment: [],
    files: [],
    variables: [],
    allowedOutboundHosts: [],
    keyValueStores: [],
    sqliteDatabases: [],
    aiModels: [],
  };
  return {
    app: { name: 'a', variables: [], triggers: [], components: [component] },
    components: [{ id: 'c', entryPath: join(store, 'c'), digest: 'sha256:0' }],
  };
}

function rootfs(name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'a.wasm'), '');
  return path;
}

const unexpected = (): Promise<never> => Promise.reject(new Error('prepared again'));

test('an app in the store is prepared once, also for a later host', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const app = appAt(join(store, 'a.wasm'));
  const image = { digest: 'sha256:1', rootfs: '/none' };
  const memo = new AppMemo(store, '1');
  assert.deepEqual(await memo.get(image, undefined, async () => app), app);
  assert.deepEqual(await memo.get(image, undefined, unexpected), app);
  assert.deepEqual(await new AppMemo(store, '1').get(image, undefined, unexpected), app);
});

test('an app in the root file system is found again in that of the next container', async () => {
  const [first, second] = [rootfs('r1'), rootfs('r2')];
  const memo = new AppMemo(store, '1');
  const digest = 'sha256:1';
  await memo.get({ digest, rootfs: first }, undefined, async () => appAt(join(first, 'a.wasm')));
  const found = await memo.get({ digest, rootfs: second }, undefined, unexpected);
  assert.equal(found.app.components[0]?.source.path, join(second, 'a.wasm'));
});

test('another image, selection or version is prepared anew', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const app = appAt(join(store, 'a.wasm'));
  let prepared = 0;
  const prepare = async (): Promise<PreparedApp> => {
    prepared++;
    return app;
  };
  const image = { digest: 'sha256:1', rootfs: '/none' };
  await new AppMemo(store, '1').get(image, undefined, prepare);
  await new AppMemo(store, '1').get(image, ['c'], prepare);
  await new AppMemo(store, '1').get({ ...image, digest: 'sha256:2' }, undefined, prepare);
  await new AppMemo(store, '2').get(image, undefined, prepare);
  assert.equal(prepared, 4);
});

test('an app whose files are gone is prepared anew', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const image = { digest: 'sha256:1', rootfs: '/none' };
  const memo = new AppMemo(store, '1');
  await memo.get(image, undefined, async () => appAt(join(store, 'a.wasm')));
  rmSync(join(store, 'a.wasm'));
  await assert.rejects(memo.get(image, undefined, unexpected), /prepared again/);
});

test('an app with files elsewhere is not kept', async () => {
  const memo = new AppMemo(store, '1');
  const image = { digest: 'sha256:1', rootfs: '/none' };
  await memo.get(image, undefined, async () => appAt(join(folder, 'r1', 'a.wasm')));
  assert.deepEqual(readdirSync(store), ['c']);
});

test('a kept app that was changed does not count, with a warning', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const app = appAt(join(store, 'a.wasm'));
  const image = { digest: 'sha256:1', rootfs: '/none' };
  await new AppMemo(store, '1').get(image, undefined, async () => app);
  const [name] = readdirSync(join(store, 'apps'));
  const path = join(store, 'apps', name ?? '');
  writeFileSync(path, readFileSync(path, 'latin1').replace('"name":"a"', '"name":"b"'), 'latin1');
  const warnings: string[] = [];
  const memo = new AppMemo(store, '1', (line) => warnings.push(line));
  await assert.rejects(memo.get(image, undefined, unexpected), /prepared again/);
  assert.match(warnings.join(), /seal is not of this node/);
  assert.deepEqual(await memo.get(image, undefined, async () => app), app);
  assert.equal(warnings.length, 2);
});

test('what turned out not to run is prepared anew, and that is kept', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const app = appAt(join(store, 'a.wasm'));
  const image = { digest: 'sha256:1', rootfs: '/none' };
  const memo = new AppMemo(store, '1');
  await memo.get(image, undefined, async () => app);
  const better = { ...app, app: { ...app.app, name: 'b' } };
  assert.deepEqual(await memo.get(image, undefined, async () => better, true), better);
  assert.deepEqual(await memo.get(image, undefined, unexpected), better);
});

test('of more apps than are kept those written first go', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const app = appAt(join(store, 'a.wasm'));
  const memo = new AppMemo(store, '1');
  await memo.get({ digest: 'sha256:1', rootfs: '/none' }, undefined, async () => app);
  const [first] = readdirSync(join(store, 'apps'));
  const old = Array.from({ length: maxKeptApps - 1 }, (_, index) => join(store, 'apps', String(index)));
  for (const path of old) writeFileSync(path, '');
  for (const path of old.slice(0, 2)) utimesSync(path, 1, 1);
  await memo.get({ digest: 'sha256:2', rootfs: '/none' }, undefined, async () => app);
  const left = readdirSync(join(store, 'apps'));
  assert.equal(left.length, maxKeptApps);
  assert.ok(left.includes(first ?? '') && left.includes('2'));
  assert.ok(left.includes('0') !== left.includes('1'));
});

test('two that come at once prepare once', async () => {
  writeFileSync(join(store, 'a.wasm'), '');
  const app = appAt(join(store, 'a.wasm'));
  const image = { digest: 'sha256:1', rootfs: '/none' };
  const memo = new AppMemo(store, '1');
  const both = await Promise.all([
    memo.get(image, undefined, async () => app),
    memo.get(image, undefined, unexpected),
  ]);
  assert.deepEqual(both, [app, app]);
});
