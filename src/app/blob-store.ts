import { createHash, randomUUID } from 'node:crypto';
import { lstat, mkdir, open, rename, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { geteuid } from 'node:process';
import { ShimError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import {
  blobFileMode,
  digestParts,
  sha256Digest,
  verifiedFile,
  writeAll,
  writeFileAtomic,
} from './blob-verify.ts';
import type { Descriptor } from './oci-types.ts';

/** Mode of the store's own folder: what is in it is trusted, so nobody else may reach it. */
export const storeMode = 0o700;

/**
 * Content-addressed blobs on this node: `blobs/<algorithm>/<hex>` below a folder that is ours alone. A blob in it was
 * verified when it was written and is used without another look. Several processes may use one store at once.
 */
export class BlobStore {
  /** The store's folder. */
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes or takes a store. Throws `permission-denied` when the folder is a link or somebody else's, or open to others. */
  static async open(folder: string): Promise<BlobStore> {
    await mkdir(folder, { recursive: true, mode: storeMode });
    const info = await lstat(folder);
    const problem = !info.isDirectory()
      ? 'is not a folder'
      : info.uid !== geteuid?.()
        ? `belongs to user ${info.uid}`
        : (info.mode & 0o077) !== 0
          ? `has the mode ${(info.mode & 0o777).toString(8)}, so others can reach it`
          : undefined;
    if (problem !== undefined) {
      throw new ShimError(
        'permission-denied',
        `image store "${folder}" ${problem}: give a folder of our own with mode 700, or none that exists`,
      );
    }
    for (const algorithm of ['sha256', 'sha512']) {
      await mkdir(join(folder, 'blobs', algorithm), { recursive: true, mode: storeMode });
    }
    return new BlobStore(folder);
  }

  /** Where a blob is, or would be. */
  path(digest: string): string {
    const { algorithm, hex } = digestParts(digest);
    return join(this.folder, 'blobs', algorithm, hex);
  }

  /** Whether a blob is there. */
  async has(digest: string): Promise<boolean> {
    return (await this.size(digest)) !== undefined;
  }

  /** Bytes of a blob, `undefined` when it is not there. */
  async size(digest: string): Promise<number | undefined> {
    const info = await lstat(this.path(digest)).catch(() => undefined);
    return info?.isFile() === true ? info.size : undefined;
  }

  /** Reads a blob from a source unless it is there; gives its path. Throws what `verifiedFile` throws. */
  async fetch(source: BlobSource, descriptor: Descriptor, maxBytes: number): Promise<string> {
    const path = this.path(descriptor.digest);
    const present = await this.size(descriptor.digest);
    if (present === undefined) {
      await verifiedFile(source, descriptor, path, maxBytes);
    } else if (present !== descriptor.size) {
      throw new ShimError(
        'digest-mismatch',
        `blob ${descriptor.digest} is ${present} bytes long, and its manifest states ${descriptor.size}: push the image again`,
      );
    } else {
      await noteUse(path);
    }
    return path;
  }

  /** Stores bytes that are in memory; gives their sha256 digest. */
  async putBytes(bytes: Uint8Array): Promise<string> {
    const digest = sha256Digest(bytes);
    if (!(await this.has(digest))) {
      await writeFileAtomic(
        this.path(digest),
        (async function* () {
          yield bytes;
        })(),
      );
    }
    return digest;
  }

  /**
   * Stores a stream whose digest is known only at its end, if `wanted` says so of that digest; gives the digest.
   * Nothing is left behind when it is not wanted or the stream fails.
   */
  async putStream(chunks: AsyncIterable<Uint8Array>, wanted: (digest: string) => boolean): Promise<string> {
    const temporary = join(this.folder, 'blobs', 'sha256', `.tmp-${randomUUID()}`);
    const hash = createHash('sha256');
    const file = await open(temporary, 'wx', 0o600);
    try {
      let digest: string;
      let keep: boolean;
      try {
        for await (const chunk of chunks) {
          hash.update(chunk);
          await writeAll(file, chunk);
        }
        digest = `sha256:${hash.digest('hex')}`;
        keep = wanted(digest);
        if (keep) {
          await file.chmod(blobFileMode);
          await file.datasync();
        }
      } finally {
        await file.close();
      }
      if (keep) await rename(temporary, this.path(digest));
      else await rm(temporary, { force: true });
      return digest;
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }
}

/** For `trimBlobs`. A file that a guest sees under another name keeps its time: the guest sees that, too. */
async function noteUse(path: string): Promise<void> {
  const { nlink } = await lstat(path);
  const now = new Date();
  if (nlink === 1) await utimes(path, now, now);
}
