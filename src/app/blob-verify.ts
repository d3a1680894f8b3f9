import { createHash, randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import type { Descriptor } from './oci-types.ts';

/** Reading blobs so that nothing is used before its size and digest are known to be right (threats.md row 18). */

/** Mode of a finished file: nobody writes to it again. */
export const blobFileMode = 0o444;

/** `sha256:<hex>` of bytes. */
export function sha256Digest(bytes: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** The algorithm and the hex of a digest that has been checked by the parser. */
export function digestParts(digest: string): { algorithm: 'sha256' | 'sha512'; hex: string } {
  const hex = digest.slice(7);
  if (/^sha256:[a-f0-9]{64}$/.test(digest)) return { algorithm: 'sha256', hex };
  if (/^sha512:[a-f0-9]{128}$/.test(digest)) return { algorithm: 'sha512', hex };
  throw new ShimError(
    'invalid-image',
    `digest ${JSON.stringify(digest.slice(0, 80))} is neither sha256 nor sha512`,
  );
}

/**
 * The bytes of a blob, checked on the way: stops at the first byte beyond the stated size, and ends with
 * `digest-mismatch` when size or digest are not as stated. What was yielded is to be trusted only after the end.
 */
export async function* verifiedStream(
  source: BlobSource,
  descriptor: Descriptor,
): AsyncGenerator<Uint8Array, void> {
  const { algorithm } = digestParts(descriptor.digest);
  const hash = createHash(algorithm);
  let received = 0;
  for await (const chunk of source.read(descriptor)) {
    received += chunk.byteLength;
    if (received > descriptor.size) {
      throw new ShimError(
        'digest-mismatch',
        `blob ${descriptor.digest} has more than the ${descriptor.size} bytes its manifest states: push the image again, or do not trust where it came from`,
      );
    }
    hash.update(chunk);
    yield chunk;
  }
  if (received < descriptor.size) {
    throw new ShimError(
      'digest-mismatch',
      `blob ${descriptor.digest} ended after ${received} of the ${descriptor.size} bytes its manifest states: pull again, or push the image again`,
    );
  }
  const actual = `${algorithm}:${hash.digest('hex')}`;
  if (actual !== descriptor.digest) {
    throw new ShimError(
      'digest-mismatch',
      `blob has the digest ${actual}, and its manifest says ${descriptor.digest}: push the image again, or do not trust where it came from`,
    );
  }
}

function checkSize(descriptor: Descriptor, maxBytes: number): void {
  if (descriptor.size <= maxBytes) return;
  throw new ShimError(
    'resource-exhausted',
    `blob ${descriptor.digest} (${descriptor.mediaType}) is ${descriptor.size} bytes long, and at most ${maxBytes} are taken here`,
  );
}

/** A blob in memory. `maxBytes` is checked against the stated size before anything is read. */
export async function verifiedBytes(
  source: BlobSource,
  descriptor: Descriptor,
  maxBytes: number,
): Promise<Buffer> {
  checkSize(descriptor, maxBytes);
  const chunks: Uint8Array[] = [];
  for await (const chunk of verifiedStream(source, descriptor)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * A blob in a file: written beside `path` under a fresh name, synced, then renamed over it, so that `path` either is
 * absent or holds all of the verified bytes, also after a power cut. `maxBytes` is checked before anything is read.
 */
export async function verifiedFile(
  source: BlobSource,
  descriptor: Descriptor,
  path: string,
  maxBytes: number,
): Promise<void> {
  checkSize(descriptor, maxBytes);
  await writeFileAtomic(path, verifiedStream(source, descriptor));
}

/** Writes a stream beside `path`, syncs it and renames it over `path`; nothing is left behind when the stream fails. */
export async function writeFileAtomic(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = join(dirname(path), `.tmp-${randomUUID()}`);
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      for await (const chunk of chunks) await writeAll(file, chunk);
      await file.chmod(blobFileMode);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Writes all of a chunk: one `write` may take only a part of it. */
export async function writeAll(
  file: { write(bytes: Uint8Array, offset: number): Promise<{ bytesWritten: number }> },
  chunk: Uint8Array,
): Promise<void> {
  let offset = 0;
  while (offset < chunk.byteLength) offset += (await file.write(chunk, offset)).bytesWritten;
}
