import { randomUUID } from 'node:crypto';
import { constants, copyFile, link, lstat, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import type { BlobStore } from './blob-store.ts';
import { sha256Digest } from './blob-verify.ts';
import { isNormalPath } from './locked-app-content.ts';

/** A file of a component: where the guest sees it, and the blob in the store. */
export type AssetFile = { readonly path: string; readonly digest: string };

/** Most bytes that the files of one folder have together, 4 GiB: a blob that is listed often may have to be copied. */
export const defaultMaxAssetBytes = 4 * 1024 ** 3;

/** Mode of the folders that a guest sees: the engine reads them without privileges. */
const folderMode = 0o755;

/**
 * The folder `assets/<sha256 of the list>` of the store with exactly these files, read-only links to the blobs; made
 * beside its place and renamed, so it is either absent or whole. Equal lists share a folder, across apps and time.
 * Throws `invalid-image` for paths that leave the folder, cannot be, or are in each other's way,
 * `resource-exhausted` when the files have more than `maxBytes` together.
 */
export async function placeAssets(
  store: BlobStore,
  files: readonly AssetFile[],
  maxBytes: number = defaultMaxAssetBytes,
): Promise<string> {
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  for (const { path } of sorted)
    if (!isNormalPath(path)) throw misplaced(path, 'is not a plain relative path');
  const list = JSON.stringify(sorted.map(({ path, digest }) => [path, digest]));
  const target = join(store.folder, 'assets', sha256Digest(list).slice('sha256:'.length));
  if (await isFolder(target)) return target;
  await checkBytes(store, sorted, maxBytes);

  const fresh = join(store.folder, 'assets', `.tmp-${randomUUID()}`);
  await mkdir(fresh, { recursive: true, mode: folderMode });
  try {
    const made = new Set<string>([fresh]);
    for (const { path, digest } of sorted) await placeFile(store.path(digest), fresh, path, made);
    await rename(fresh, target);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    // Another process was faster with the same list, and a whole folder is never replaced.
    if (!(await isFolder(target))) throw error;
  }
  return target;
}

async function checkBytes(store: BlobStore, files: readonly AssetFile[], maxBytes: number): Promise<void> {
  let total = 0;
  for (const { digest } of files) total += (await store.size(digest)) ?? 0;
  if (total <= maxBytes) return;
  throw new ShimError(
    'resource-exhausted',
    `files of a component have ${total} bytes together, and at most ${maxBytes} are taken: put fewer or smaller files into it`,
  );
}

async function isFolder(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() === true;
}

async function placeFile(blob: string, root: string, path: string, made: Set<string>): Promise<void> {
  const target = join(root, path);
  const folder = dirname(target);
  try {
    if (!made.has(folder)) {
      await mkdir(folder, { recursive: true, mode: folderMode });
      made.add(folder);
    }
    await linkOrCopy(blob, target);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST' || code === 'ENOTDIR')
      throw misplaced(path, 'is in the way of another file', error);
    if (code === 'ENAMETOOLONG') throw misplaced(path, 'has a part that is too long for a file name', error);
    throw error;
  }
}

async function linkOrCopy(blob: string, target: string): Promise<void> {
  try {
    await link(blob, target);
  } catch (error) {
    const code = codeOf(error);
    // Too many links to one blob, or a filesystem without them.
    if (code !== 'EMLINK' && code !== 'EPERM' && code !== 'EXDEV' && code !== 'ENOTSUP') throw error;
    await copyFile(blob, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function misplaced(path: string, why: string, cause?: unknown): ShimError {
  return new ShimError(
    'invalid-image',
    `file ${JSON.stringify(path.slice(0, 300))} of a component ${why}: push the app again with another path`,
    cause === undefined ? {} : { cause },
  );
}
