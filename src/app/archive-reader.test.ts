import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pack, type Header as TarHeader } from 'tar-stream';
import { type ArchiveLimits, readArchive } from './archive-reader.ts';
import { writeArchive } from './archive-writer.ts';
import { sha256Digest } from './blob-verify.ts';

type Header = Pick<TarHeader, 'name'> & Partial<TarHeader>;

async function tarOf(entries: readonly (readonly [Header, (Buffer | string)?])[]): Promise<Buffer> {
  const archive = pack();
  for (const [header, content] of entries) archive.entry(header, content ?? '');
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive as AsyncIterable<Uint8Array>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Cuts bytes into pieces that are aligned with nothing. */
async function* pieces(bytes: Uint8Array, length = 777): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.byteLength; i += length) yield bytes.subarray(i, i + length);
}

async function filesOf(
  gzip: Uint8Array,
  limits?: ArchiveLimits,
): Promise<readonly (readonly [string, string])[]> {
  const files: [string, string][] = [];
  await readArchive(
    pieces(gzip),
    async ({ name, content }) => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of content) chunks.push(chunk);
      files.push([name, Buffer.concat(chunks).toString()]);
    },
    limits,
  );
  return files;
}

describe('readArchive', () => {
  it('gives regular files with their content, of any length, and passes folders over', async () => {
    const lengths = [0, 1, 511, 512, 513, 100_000];
    const tar = await tarOf([
      [{ name: 'folder/', type: 'directory' }],
      ...lengths.map((length) => [{ name: `f${length}` }, 'x'.repeat(length)] as const),
    ]);
    const files = await filesOf(gzipSync(tar));
    assert.deepEqual(
      files,
      lengths.map((length) => [`f${length}`, 'x'.repeat(length)]),
    );
  });

  it('goes on with the next file when the content is not read', async () => {
    const tar = await tarOf([
      [{ name: 'a' }, 'x'.repeat(5000)],
      [{ name: 'b' }, 'y'],
    ]);
    const names: string[] = [];
    await readArchive(pieces(gzipSync(tar)), async ({ name, content }) => {
      names.push(name);
      for await (const _ of content) break;
    });
    assert.deepEqual(names, ['a', 'b']);
  });

  it('takes names for what they are: text, which leads nowhere', async () => {
    const long = `${'d/'.repeat(200)}file`;
    const tar = await tarOf([
      [{ name: '../../etc/passwd' }, 'one'],
      [{ name: '/etc/shadow' }, 'two'],
      [{ name: long, pax: { comment: 'long' } }, 'three'],
    ]);
    assert.deepEqual(
      (await filesOf(gzipSync(tar))).map(([, content]) => content),
      ['one', 'two', 'three'],
    );
  });

  const hostile: readonly (readonly [string, Header])[] = [
    ['a symbolic link', { name: 'l', type: 'symlink', linkname: '/etc' }],
    ['a hard link', { name: 'l', type: 'link', linkname: '/etc/passwd' }],
    ['a character device', { name: 'l', type: 'character-device' }],
    ['a block device', { name: 'l', type: 'block-device' }],
    ['a fifo', { name: 'l', type: 'fifo' }],
  ];
  for (const [what, header] of hostile) {
    it(`refuses ${what}`, async () => {
      const gzip = gzipSync(await tarOf([[header]]));
      await assert.rejects(filesOf(gzip), {
        code: 'invalid-image',
        message: new RegExp(`holds ${what}, "l"`),
      });
    });
  }

  it('refuses broken data with a reason', async () => {
    const tar = await tarOf([[{ name: 'a' }, 'x'.repeat(2000)]]);
    const flipped = Buffer.from(tar);
    flipped[0] = 0x62;
    const sized = Buffer.from(tar);
    sized.write('zz', 124);
    const cases: readonly (readonly [Buffer, RegExp])[] = [
      [Buffer.from('not gzip at all'), /not gzip data/],
      [gzipSync(tar).subarray(0, 40), /not gzip data/],
      [gzipSync(flipped), /wrong checksum/],
      [gzipSync(sized), /wrong checksum|not octal/],
      [gzipSync(tar.subarray(0, 300)), /middle of a header/],
      [gzipSync(tar.subarray(0, 1000)), /middle of a file/],
    ];
    for (const [gzip, message] of cases)
      await assert.rejects(filesOf(gzip), { code: 'invalid-image', message });
  });

  it('stops a bomb by its ratio, with the content read or not', async () => {
    const gzip = gzipSync(await tarOf([[{ name: 'zeros' }, Buffer.alloc(64 * 1024 * 1024)]]));
    assert.ok(gzip.length < 100_000);
    let received = 0;
    const bomb = readArchive(pieces(gzip), async ({ content }) => {
      for await (const chunk of content) received += chunk.byteLength;
    });
    await assert.rejects(bomb, { code: 'resource-exhausted', message: /more than 200 times/ });
    assert.ok(received <= 17 * 1024 * 1024, `${received} bytes were let through`);
  });

  it('does not hold what a long-name header states', async () => {
    const header = Buffer.from((await tarOf([[{ name: 'x' }, '']])).subarray(0, 512));
    header.write('L', 156);
    header.write('17777777777\0', 124);
    header.fill(' ', 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    const gzip = gzipSync(Buffer.concat([header, Buffer.alloc(32 * 1024 * 1024)]));
    await assert.rejects(filesOf(gzip), { code: 'resource-exhausted' });
  });

  it('counts bytes and entries to the edge', async () => {
    const tar = await tarOf([
      [{ name: 'a' }, 'x'],
      [{ name: 'b' }, 'y'],
    ]);
    const gzip = gzipSync(tar);
    assert.equal((await filesOf(gzip, { maxBytes: tar.length, maxEntries: 2 })).length, 2);
    await assert.rejects(filesOf(gzip, { maxBytes: tar.length - 1 }), { code: 'resource-exhausted' });
    await assert.rejects(filesOf(gzip, { maxEntries: 1 }), {
      code: 'resource-exhausted',
      message: /more than 1 entries/,
    });
    const limits = { ratioFloorBytes: 0, maxRatio: Math.ceil(tar.length / gzip.length) };
    assert.equal((await filesOf(gzip, limits)).length, 2);
    await assert.rejects(
      filesOf(gzip, { ...limits, maxRatio: Math.floor(tar.length / gzip.length) - 1 }),
      /grows more/,
    );
  });

  it('passes on what the callback throws', async () => {
    const gzip = gzipSync(await tarOf([[{ name: 'a' }, 'x']]));
    await assert.rejects(
      readArchive(pieces(gzip), async () => {
        throw new Error('disk full');
      }),
      /disk full/,
    );
  });
});

describe('writeArchive', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'archive-'));
  });
  after(() => rm(folder, { recursive: true }));

  it('writes what readArchive reads, the same bytes for the same files', async () => {
    await writeFile(join(folder, 'one'), 'first');
    await writeFile(join(folder, 'two'), 'second');
    const one = { path: 'a/one.txt', file: join(folder, 'one'), size: 5 };
    const two = { path: 'b.txt', file: join(folder, 'two'), size: 6 };
    await writeArchive([one, two], join(folder, '1.tar.gz'));
    await writeArchive([two, one], join(folder, '2.tar.gz'));
    const read = async (name: string): Promise<Buffer> => {
      const chunks: Buffer[] = [];
      for await (const chunk of createReadStream(join(folder, name)) as AsyncIterable<Buffer>)
        chunks.push(chunk);
      return Buffer.concat(chunks);
    };
    const first = await read('1.tar.gz');
    assert.equal(sha256Digest(first), sha256Digest(await read('2.tar.gz')));
    assert.deepEqual(await filesOf(first), [
      ['a/one.txt', 'first'],
      ['b.txt', 'second'],
    ]);
  });

  it('fails when a file is longer or shorter than stated', async () => {
    await writeFile(join(folder, 'file'), 'four');
    for (const size of [3, 5]) {
      const input = { path: 'f', file: join(folder, 'file'), size };
      await assert.rejects(writeArchive([input], join(folder, `bad-${size}.tar.gz`)));
    }
  });
});
