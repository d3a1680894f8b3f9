import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { type ArchiveLimits, defaultMaxArchiveBytes, readArchive } from './archive-reader.ts';
import { inParallel } from './blob-parallel.ts';
import type { BlobSource } from './blob-source.ts';
import type { BlobStore } from './blob-store.ts';
import { sha256Digest, verifiedFile } from './blob-verify.ts';
import type { ContentRef } from './locked-app-content.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';

/** What an image may make us store; the byte limit of archives is for all archives of an image together. */
export type ImageLimits = ArchiveLimits & {
  /** Largest single layer in bytes. Default 1 GiB. */
  readonly maxLayerBytes?: number;
  /** Most bytes of all layers of one image that are read. Default 4 GiB. */
  readonly maxImageBytes?: number;
  /** Most files of all components together, and most bytes of the files of one component. Defaults 100,000 and 4 GiB. */
  readonly maxFiles?: number;
  readonly maxAssetBytes?: number;
  /** Blobs read at once. Default 4. */
  readonly concurrency?: number;
};

/** A content reference and whose it is, for messages. */
export type Wanted = { readonly ref: ContentRef; readonly what: string };

export const defaultMaxLayerBytes = 1024 ** 3;
export const defaultMaxImageBytes = 4 * 1024 ** 3;
export const defaultMaxFiles = 100_000;

/**
 * Brings the wanted content into the store, from inline bytes, layers, or archives, and nothing else; URLs in the
 * references are never opened. Gives the digest of each reference. Layers that nothing refers to are not read.
 * Throws `invalid-image` for content that the image does not hold.
 */
export async function storeContent(
  source: BlobSource,
  layers: readonly Descriptor[],
  store: BlobStore,
  wanted: readonly Wanted[],
  limits: ImageLimits,
): Promise<ReadonlyMap<ContentRef, string>> {
  const maxFiles = limits.maxFiles ?? defaultMaxFiles;
  if (wanted.length > maxFiles) {
    throw new ShimError(
      'resource-exhausted',
      `app has ${wanted.length} files and sources, and at most ${maxFiles} are taken: put fewer files into it`,
    );
  }
  const digests = new Map<ContentRef, string>();
  const byDigest = new Map(layers.map((layer) => [layer.digest, layer]));
  const archives = byDigest
    .values()
    .toArray()
    .filter((layer) => layer.mediaType === mediaTypes.archiveLayer);
  const fromLayers = new Map<string, Descriptor>();
  const fromArchives = new Map<string, string>();
  for (const { ref, what } of wanted) {
    if (ref.inline !== undefined) {
      digests.set(ref, await storeInline(store, ref.inline, ref.digest, what));
      continue;
    }
    if (ref.digest === undefined) throw outside(what);
    digests.set(ref, ref.digest);
    const layer = byDigest.get(ref.digest);
    if (layer !== undefined) fromLayers.set(ref.digest, layer);
    else if (archives.length > 0) fromArchives.set(ref.digest, what);
    else throw missing(what, ref.digest);
  }
  checkTotal([...fromLayers.values(), ...(fromArchives.size > 0 ? archives : [])], limits);
  const maxBytes = limits.maxLayerBytes ?? defaultMaxLayerBytes;
  await inParallel([...fromLayers.values()], limits.concurrency ?? 4, async (layer) => {
    await store.fetch(source, layer, maxBytes);
  });
  await storeFromArchives(source, archives, store, fromArchives, limits);
  return digests;
}

async function storeInline(
  store: BlobStore,
  bytes: Uint8Array,
  stated: string | undefined,
  what: string,
): Promise<string> {
  const digest = sha256Digest(bytes);
  if (stated !== undefined && stated !== digest) {
    throw new ShimError(
      'digest-mismatch',
      `inline content of ${what} has the digest ${digest}, and the app says ${stated}: push the app again`,
    );
  }
  return store.putBytes(bytes);
}

function outside(what: string): ShimError {
  return new ShimError(
    'invalid-image',
    `${what} refers to something outside of the image: push the app again with "spin registry push" or "spinshim push"`,
  );
}

function missing(what: string, digest: string): ShimError {
  return new ShimError(
    'invalid-image',
    `${what} is the blob ${digest}, which the image does not hold: push the app again`,
  );
}

/** Throws `resource-exhausted` when the layers together are more than an image may have. */
export function checkTotal(layers: readonly Descriptor[], limits: ImageLimits): void {
  const most = limits.maxImageBytes ?? defaultMaxImageBytes;
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  if (total > most) {
    throw new ShimError(
      'resource-exhausted',
      `image has ${total} bytes of layers, and at most ${most} are taken`,
    );
  }
}

async function storeFromArchives(
  source: BlobSource,
  archives: readonly Descriptor[],
  store: BlobStore,
  wanted: ReadonlyMap<string, string>,
  limits: ImageLimits,
): Promise<void> {
  const open = new Map<string, string>();
  for (const [digest, what] of wanted) if (!(await store.has(digest))) open.set(digest, what);
  let maxBytes = limits.maxBytes ?? defaultMaxArchiveBytes;
  for (const archive of archives) {
    if (open.size === 0) return;
    maxBytes -= await unpack(source, archive, store, open, { ...limits, maxBytes });
  }
  for (const [digest, what] of open) throw missing(what, digest);
}

/** Unpacks an archive of a verified file, so that nothing of a blob with a wrong digest is ever looked into. */
async function unpack(
  source: BlobSource,
  archive: Descriptor,
  store: BlobStore,
  open: Map<string, string>,
  limits: ImageLimits,
): Promise<number> {
  const file = join(store.folder, `.tmp-${randomUUID()}`);
  try {
    await verifiedFile(source, archive, file, limits.maxLayerBytes ?? defaultMaxLayerBytes);
    return await readArchive(
      createReadStream(file),
      async ({ content }) => {
        const digest = await store.putStream(content, (found) => open.has(found));
        open.delete(digest);
      },
      limits,
    );
  } finally {
    await rm(file, { force: true });
  }
}
