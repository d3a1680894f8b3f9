import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadFromFolder } from './load-folder.ts';
import type { LockedApp } from './locked-app.ts';
import type { LockedFile } from './locked-app-content.ts';
import { parseManifest } from './manifest.ts';

/**
 * Calls `use` with the app of a `spin.toml`, its content references being `file:` URLs: what `pushApp` and
 * `writeLayout` take. Files that the manifest's patterns match are copied first, to a folder that is gone afterwards.
 * Only components that a trigger refers to are in it. Throws what `loadFromFolder` throws.
 */
export async function withLockedFolder<T>(
  manifestPath: string,
  use: (app: LockedApp) => Promise<T>,
): Promise<T> {
  const workDir = await mkdtemp(join(tmpdir(), 'spin-lock-'));
  try {
    return await use(await lockFolder(manifestPath, workDir));
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

async function lockFolder(manifestPath: string, workDir: string): Promise<LockedApp> {
  // Loading checks the manifest's size, place and content, so it comes before the manifest is read for its own sake.
  const loaded = await loadFromFolder(manifestPath, { workDir, mode: 'copy' });
  const manifest = parseManifest(await readFile(manifestPath, 'utf8'), manifestPath);
  const components: LockedApp['components'][number][] = [];
  for (const component of manifest.components) {
    const found = loaded.components.find(({ id }) => id === component.id);
    if (found === undefined) continue;
    const { fileGrants: _, ...rest } = component;
    const files: LockedFile[] = [];
    for (const { source } of found.files) files.push(...(await filesOf(source)));
    const source = { contentType: 'application/wasm', source: pathToFileURL(found.source.path).href };
    components.push({ ...rest, source, files });
  }
  return { ...manifest, components };
}

/** The regular files below a folder, by relative path, sorted. */
async function filesOf(folder: string): Promise<readonly LockedFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => ({ path: relative(folder, file), content: { source: pathToFileURL(file).href } }));
}
