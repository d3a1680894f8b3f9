import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Age below which a blob may be in somebody's hands, milliseconds: a preparer ends within two minutes. */
export const defaultMinBlobAgeMs = 600_000;

type Blob = { readonly path: string; readonly bytes: number; readonly usedAt: number };

/**
 * Removes the blobs that were used least recently until the rest has at most `maxBytes`; also what a writer that was killed
 * left. Blobs that files of components are links to stay: their bytes are in use for as long as those are. One that is
 * wanted again is fetched again.
 */
export async function trimBlobs(
  storeDir: string,
  maxBytes: number,
  minAgeMs: number = defaultMinBlobAgeMs,
): Promise<void> {
  const oldest = Date.now() - minAgeMs;
  const blobs: Blob[] = [];
  for (const algorithm of ['sha256', 'sha512']) {
    const folder = join(storeDir, 'blobs', algorithm);
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      const info = await lstat(path).catch(() => undefined);
      if (info === undefined || !info.isFile() || info.nlink > 1) continue;
      if (!name.startsWith('.')) blobs.push({ path, bytes: info.size, usedAt: info.mtimeMs });
      else if (info.mtimeMs < oldest) await rm(path, { force: true });
    }
  }
  let total = blobs.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { path, bytes, usedAt } of blobs.toSorted((a, b) => a.usedAt - b.usedAt)) {
    if (total <= maxBytes || usedAt >= oldest) return;
    total -= bytes;
    // Another preparer may have come for it meanwhile.
    const now = await lstat(path).catch(() => undefined);
    if (now !== undefined && now.nlink === 1 && now.mtimeMs < oldest) await rm(path, { force: true });
  }
}
