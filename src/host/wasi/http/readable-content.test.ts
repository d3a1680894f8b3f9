import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { freeHandedOver } from '../../../large-bytes.ts';
import { HttpFailure } from './error-code.ts';
import { ReadableContent } from './readable-content.ts';

const highWaterMark = 64 * 1024;

/** A body of pieces, of which the stream asks one at a time as long as it has less than its high-water mark. */
function bodyOf(pieces: readonly Uint8Array[]): { readable: Readable; content: ReadableContent } {
  const left = pieces.slice();
  const readable = new Readable({
    highWaterMark,
    read: () => setImmediate(() => readable.push(left.shift() ?? null)),
  });
  return { readable, content: new ReadableContent(readable, () => []) };
}

async function ready({ source: { readiness } }: ReadableContent): Promise<void> {
  while (!readiness.isReady()) await new Promise<void>((resolve) => readiness.subscribe(resolve));
}

/** Reads to the end as a guest does: what it is given is copied, and then nobody needs it any more. */
async function readAll(content: ReadableContent, max: number): Promise<Buffer> {
  const copies: Buffer[] = [];
  for (;;) {
    const bytes = content.source.read(max);
    if (bytes === 'end') return Buffer.concat(copies);
    if (bytes === undefined) {
      await ready(content);
      continue;
    }
    assert.ok(bytes.length > 0 && bytes.length <= max, `${bytes.length} bytes for a read of ${max}`);
    copies.push(Buffer.from(bytes));
    freeHandedOver(bytes);
  }
}

function numbered(length: number, from: number): Uint8Array {
  return Uint8Array.from({ length }, (_value, index) => (from + index) % 251);
}

const sizes = [65_536, 1, 1, 3, 65_536, 65_535, 5_000, 100_000, 2, 65_536];

for (const max of [1_000, 4_096, 16_384, 65_536, 1024 * 1024]) {
  test(`pieces of all sizes reach a guest whole and in order, ${max} bytes at a time`, async () => {
    const pieces = sizes.map((size, index) => numbered(size, index * 7));
    const expected = Buffer.concat(pieces);
    const { content } = bodyOf(pieces);
    assert.ok((await readAll(content, max)).equals(expected));
    assert.deepEqual(content.end(), { trailers: [] });
  });
}

test('a large piece is freed once the guest has all parts of it', async () => {
  const piece = numbered(65_536, 0);
  const { content } = bodyOf([piece]);
  await readAll(content, 10_000);
  assert.equal(piece.length, 0);
});

test('a guest that has read part of a piece has the rest still to come, and its end after that', async () => {
  const { content } = bodyOf([numbered(100, 0)]);
  content.source.read(60);
  await ready(content);
  assert.equal((content.source.read(60) as Uint8Array).length, 60);
  assert.equal(content.source.readiness.isReady(), true);
  assert.equal(content.ended.isReady(), false);
  assert.deepEqual(Buffer.from(content.source.read(60) as Uint8Array), Buffer.from(numbered(40, 60)));
  assert.equal(content.source.read(60), undefined);
  await ready(content);
  assert.equal(content.source.read(60), 'end');
  assert.equal(content.ended.isReady(), true);
});

test('no more is fetched than the stream’s high-water mark and the piece that the guest is at', async () => {
  let fetched = 0;
  const readable = new Readable({
    highWaterMark,
    read: () => {
      fetched += 16_384;
      readable.push(new Uint8Array(16_384));
    },
  });
  const content = new ReadableContent(readable, () => []);
  assert.equal(content.source.read(1), undefined);
  await ready(content);
  assert.equal((content.source.read(1) as Uint8Array).length, 1);
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(fetched <= 2 * highWaterMark + 16_384, `${fetched} bytes`);
});

test('what is left of a piece is dropped with the body, and when its end is asked for', async () => {
  const { content } = bodyOf([numbered(100, 0), numbered(100, 0)]);
  content.source.read(60);
  await ready(content);
  content.source.read(60);
  content.discard();
  await new Promise<void>((resolve) => {
    if (content.ended.isReady()) resolve();
    else content.ended.subscribe(() => resolve());
  });
  assert.deepEqual(content.end(), { trailers: [] });

  const { content: abandoned } = bodyOf([numbered(100, 0)]);
  abandoned.source.read(60);
  await ready(abandoned);
  abandoned.source.read(60);
  abandoned.abandon();
  assert.throws(() => abandoned.source.read(60), HttpFailure);
});

test('a client that goes away in the middle leaves what has come of the piece, then a failure', async () => {
  const { readable, content } = bodyOf([numbered(100, 0)]);
  content.source.read(60);
  await ready(content);
  content.source.read(60);
  const closed = new Promise((resolve) => readable.once('close', resolve));
  readable.destroy(new Error('gone'));
  await closed;
  assert.deepEqual(Buffer.from(content.source.read(60) as Uint8Array), Buffer.from(numbered(40, 60)));
  assert.throws(() => content.source.read(60), HttpFailure);
});
