import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { BlobSource } from './blob-source.ts';
import { sha256Digest, verifiedBytes, verifiedFile } from './blob-verify.ts';
import type { Descriptor } from './oci-types.ts';

const content = Buffer.from('the content of a blob');
const descriptor: Descriptor = { mediaType: 'a/b', digest: sha256Digest(content), size: content.length };

function sourceOf(chunks: readonly Uint8Array[], onChunk: () => void = () => {}): BlobSource {
  return {
    resolve: async () => descriptor,
    read: async function* () {
      for (const chunk of chunks) {
        onChunk();
        yield chunk;
      }
    },
  };
}

describe('verified reading', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'blob-'));
  });
  after(() => rm(folder, { recursive: true }));

  it('gives the bytes of a blob that is right', async () => {
    const source = sourceOf([content.subarray(0, 5), content.subarray(5)]);
    assert.deepEqual(await verifiedBytes(source, descriptor, content.length), content);
    const sha512 = `sha512:${createHash('sha512').update(content).digest('hex')}`;
    assert.deepEqual(await verifiedBytes(source, { ...descriptor, digest: sha512 }, content.length), content);
  });

  it('names both digests when they differ', async () => {
    const other = Buffer.from(content.toString().toUpperCase());
    await assert.rejects(
      verifiedBytes(sourceOf([other]), descriptor, 100),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'digest-mismatch');
        assert.ok(error.message.includes(sha256Digest(other)) && error.message.includes(descriptor.digest));
        return true;
      },
    );
  });

  it('stops at the first chunk beyond the stated size', async () => {
    let chunks = 0;
    const endless = sourceOf(Array(1000).fill(content), () => chunks++);
    await assert.rejects(verifiedBytes(endless, descriptor, 100), {
      code: 'digest-mismatch',
      message: /more than the 21/,
    });
    assert.equal(chunks, 2);
  });

  it('refuses a blob that ends early', async () => {
    const short = sourceOf([content.subarray(1)]);
    await assert.rejects(verifiedBytes(short, descriptor, 100), {
      code: 'digest-mismatch',
      message: /after 20 of the 21/,
    });
  });

  it('reads nothing when the stated size is above the limit', async () => {
    let chunks = 0;
    const source = sourceOf([content], () => chunks++);
    await assert.rejects(verifiedBytes(source, descriptor, content.length - 1), {
      code: 'resource-exhausted',
    });
    assert.equal(chunks, 0);
  });

  it('writes a read-only file in one step, and leaves nothing behind when it fails', async () => {
    const path = join(folder, 'good');
    await verifiedFile(sourceOf([content]), descriptor, path, 100);
    assert.deepEqual(await readFile(path), content);
    assert.equal((await stat(path)).mode & 0o777, 0o444);
    await assert.rejects(verifiedFile(sourceOf([Buffer.from('x')]), descriptor, join(folder, 'bad'), 100));
    await assert.rejects(verifiedFile(sourceOf([content, content]), descriptor, join(folder, 'bad'), 100));
    assert.deepEqual(await readdir(folder), ['good']);
  });
});
