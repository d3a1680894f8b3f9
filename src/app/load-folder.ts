import { realpath } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { ShimError } from '../error.ts';
import { appFromLocked, selectComponents } from './app-from-locked.ts';
import { copyAssets, digestFile } from './asset-copy.ts';
import { type OpenPlacement, planAssets } from './asset-plan.ts';
import { AssetRoot } from './asset-root.ts';
import type { LockedComponent } from './locked-app.ts';
import { maxManifestBytes, parseManifest } from './manifest.ts';
import { quoted } from './manifest-key.ts';
import type { App, ComponentSource, FileMount } from './types.ts';

/** Largest wasm file (bytes). */
export const maxSourceBytes = 512 * 1024 * 1024;

export type LoadFolderOptions = {
  /** Folder of ours that receives copies of files, below `assets/<component>`. */
  readonly workDir: string;
  /**
   * `copy`: the folder is the user's own project; files are copied, sources may lie beside the folder.
   * `direct`: the folder is the root of a container, hostile and absolute paths start in it; directories are mounted
   * where they are, and only patterns and single files are copied.
   */
  readonly mode: 'copy' | 'direct';
  /** Component ids of SPIN_COMPONENTS_TO_RETAIN; absent = keep all. */
  readonly retain?: readonly string[];
};

/**
 * Loads the application of a manifest in a folder (spin.md 1.9). Every source file is found and hashed. Errors name the
 * component: a missing wasm file says which command builds it; URL and package sources are `unsupported`.
 */
export async function loadFromFolder(manifestPath: string, options: LoadFolderOptions): Promise<App> {
  const folder = dirname(resolve(manifestPath));
  const root = await AssetRoot.open(folder, options.mode === 'direct' ? 'from-root' : 'of-machine');
  const locked = parseManifest(await readManifest(root, manifestPath, options.mode), manifestPath);
  const { components } = selectComponents(locked, options.retain);
  const sources = new Map<string, ComponentSource>();
  const mounts = new Map<string, readonly FileMount[]>();
  for (const component of components) {
    sources.set(component.id, await loadSource(root, component, options.mode));
    mounts.set(component.id, await loadMounts(root, component, options));
  }
  const resolved = {
    source: (id: string) => present(sources, id),
    mounts: (id: string) => present(mounts, id),
  };
  return appFromLocked(locked, resolved, options.retain === undefined ? {} : { retain: options.retain });
}

function present<T>(values: ReadonlyMap<string, T>, id: string): T {
  const value = values.get(id);
  if (value === undefined) throw new ShimError('internal', `component ${quoted(id)} was not loaded`);
  return value;
}

async function readManifest(
  root: AssetRoot,
  manifestPath: string,
  mode: LoadFolderOptions['mode'],
): Promise<string> {
  const place =
    mode === 'direct'
      ? { root, path: basename(resolve(manifestPath)) }
      : await ownPlace(resolve(manifestPath));
  const found = await place?.root.locate(place.path);
  if (place === undefined || found?.kind !== 'file') {
    throw new ShimError('not-found', `manifest "${manifestPath}" does not exist; name a spin.toml file`);
  }
  if (found.size > maxManifestBytes) {
    const text = `manifest "${manifestPath}" has ${found.size} bytes, more than the ${maxManifestBytes} allowed`;
    throw new ShimError('invalid-manifest', text);
  }
  const handle = await place.root.openFile(found.path);
  try {
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

/** What a user's own manifest names, wherever it is, as a name in a root of its own; undefined if it does not exist. */
async function ownPlace(path: string): Promise<{ root: AssetRoot; path: string } | undefined> {
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) return undefined;
  return { root: await AssetRoot.open(dirname(real), 'of-machine'), path: basename(real) };
}

/** A path of the manifest below the root: in a container, absolute paths start there. */
function pathBelow(written: string): string {
  return written.replace(/^\/+/, '');
}

async function loadSource(
  root: AssetRoot,
  component: LockedComponent,
  mode: LoadFolderOptions['mode'],
): Promise<ComponentSource> {
  const where = `component ${quoted(component.id)}`;
  const { source, digest, package: packageRef } = component.source;
  if (source === undefined || digest !== undefined || packageRef !== undefined) {
    const kind = packageRef === undefined ? 'a URL' : `package ${quoted(packageRef.name)}`;
    const text = `${where}: its source is ${kind}, which is not fetched when an app is loaded from a folder; put the wasm file beside the manifest, or push the app to a registry`;
    throw new ShimError('unsupported', text);
  }
  const place =
    mode === 'direct' ? { root, path: pathBelow(source) } : await ownPlace(resolve(root.directory, source));
  const found = await place?.root.locate(place.path);
  if (place === undefined || found?.kind !== 'file') {
    const command = component.build?.command.join(' && ');
    const hint =
      command === undefined || command === ''
        ? 'build the component, or correct "source"'
        : `build it with ${JSON.stringify(command)} (or "spin build")`;
    const text = `${where}: source ${quoted(source)} does not exist in "${root.directory}"; ${hint}`;
    throw new ShimError('not-found', text);
  }
  const handle = await place.root.openFile(found.path);
  try {
    const digestOfFile = await digestFile(handle, maxSourceBytes, `${where}: source ${quoted(source)}`);
    return { path: place.root.absolute(found.path), digest: digestOfFile };
  } finally {
    await handle.close();
  }
}

async function loadMounts(
  root: AssetRoot,
  component: LockedComponent,
  options: LoadFolderOptions,
): Promise<readonly FileMount[]> {
  const grants = component.fileGrants;
  if (grants === undefined) return [];
  const direct = options.mode === 'direct' ? await directMounts(root, component) : undefined;
  if (direct !== undefined) return direct;
  const directory = join(resolve(options.workDir), 'assets', component.id);
  const openPlacement: OpenPlacement = async (source) => {
    if (options.mode === 'direct') return { root, path: pathBelow(source) };
    // What a user's own manifest names outside of its folder is a root of its own.
    const path = resolve(root.directory, source);
    const inside = relative(root.directory, path);
    if (inside !== '..' && !inside.startsWith('../')) return { root, path: inside };
    return { root: await AssetRoot.open(dirname(path), 'of-machine'), path: basename(path) };
  };
  try {
    await copyAssets(await planAssets(root, grants, openPlacement), directory);
  } catch (cause) {
    const error = ShimError.from(cause);
    throw new ShimError(error.code, `component ${quoted(component.id)}: ${error.message}`, { cause });
  }
  return [{ source: directory, destination: '/' }];
}

/** The mounts of a component that is granted whole directories only; undefined if something has to be copied. */
async function directMounts(
  root: AssetRoot,
  component: LockedComponent,
): Promise<readonly FileMount[] | undefined> {
  const { include, exclude } = component.fileGrants ?? { include: [], exclude: [] };
  if (exclude.length > 0) return undefined;
  const mounts = new Map<string, FileMount>();
  for (const grant of include) {
    if (grant.kind === 'pattern') return undefined;
    const found = await root.locate(pathBelow(grant.source));
    if (found?.kind !== 'directory') return undefined;
    const destination = `/${grant.destination
      .split('/')
      .filter((name) => name !== '' && name !== '.')
      .join('/')}`;
    if (mounts.has(destination)) {
      const text = `component ${quoted(component.id)}: "files" names destination ${quoted(destination)} twice`;
      throw new ShimError('invalid-manifest', text);
    }
    mounts.set(destination, { source: root.absolute(found.path), destination });
  }
  return [...mounts.values()];
}
