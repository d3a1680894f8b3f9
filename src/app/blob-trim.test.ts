import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BlobStore } from './blob-store.ts';
import { trimBlobs } from './blob-trim.ts';

/** A store with four blobs of ten bytes, `a` used first; a component's file is a link to `b`. */
async function filledStore(
  t: TestContext,
): Promise<{ store: string; blobs: string; left(): Promise<string> }> {
  const store = await mkdtemp(join(tmpdir(), 'blobs-'));
  t.after(() => rm(store, { recursive: true, force: true }));
  await BlobStore.open(store);
  const blobs = join(store, 'blobs', 'sha256');
  for (const [index, name] of ['a', 'b', 'c', 'd'].entries()) {
    await writeFile(join(blobs, name), '0123456789');
    await utimes(join(blobs, name), 1000 + index, 1000 + index);
  }
  await mkdir(join(store, 'assets'));
  await link(join(blobs, 'b'), join(store, 'assets', 'b'));
  return { store, blobs, left: async () => (await readdir(blobs)).sort().join('') };
}

test('blobs used least recently go until the rest is within the bound; linked ones stay and do not count', async (t) => {
  const { store, left } = await filledStore(t);
  await trimBlobs(store, 30);
  assert.equal(await left(), 'abcd');
  await trimBlobs(store, 29);
  assert.equal(await left(), 'bcd');
  await trimBlobs(store, 0);
  assert.equal(await left(), 'b');
});

test('a blob that may be in use stays, and what a killed writer left goes in time', async (t) => {
  const { store, blobs, left } = await filledStore(t);
  const now = new Date();
  await utimes(join(blobs, 'c'), now, now);
  await writeFile(join(blobs, '.tmp-new'), '');
  await writeFile(join(blobs, '.tmp-old'), '');
  await utimes(join(blobs, '.tmp-old'), 1, 1);
  await trimBlobs(store, 0);
  assert.equal(await left(), '.tmp-newbc');
});

test('a blob that is fetched again counts as used, one that has links keeps its time', async (t) => {
  const store = await mkdtemp(join(tmpdir(), 'blobs-'));
  t.after(() => rm(store, { recursive: true, force: true }));
  const opened = await BlobStore.open(store);
  const digest = await opened.putBytes(Buffer.from('content'));
  const path = opened.path(digest);
  const source = {
    resolve: () => Promise.reject(new Error('no')),
    read: () => Promise.reject(new Error('no')),
  };
  const fetch = (): Promise<string> =>
    opened.fetch(source as never, { mediaType: 'x', digest, size: 7 }, 100);
  await utimes(path, 1000, 1000);
  await fetch();
  await trimBlobs(store, 0);
  assert.equal((await opened.size(digest)) ?? 0, 7, 'it was used just now');
  await link(path, join(store, 'linked'));
  await utimes(path, 1000, 1000);
  await fetch();
  const { mtimeMs } = await stat(path);
  assert.equal(mtimeMs, 1_000_000);
});
