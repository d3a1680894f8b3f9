import { ShimError } from '../error.ts';
import { type AssetRoot, maxPathDepth } from './asset-root.ts';
import { Glob, type GlobPositions } from './glob.ts';
import type { FileGrants } from './locked-app.ts';
import { quoted } from './manifest-key.ts';

/** Bounds on the files of one component. */
export type AssetLimits = {
  /** Files that are copied. */
  readonly maxFiles: number;
  /** Bytes of all of them. */
  readonly maxBytes: number;
  /** Names that are looked at to find them. */
  readonly maxEntries: number;
};

export const defaultAssetLimits: AssetLimits = {
  maxFiles: 20_000,
  maxBytes: 1024 * 1024 * 1024,
  maxEntries: 200_000,
};

/** A file to copy: where it is, and how large it was when found. */
export type PlannedFile = { readonly root: AssetRoot; readonly path: string; readonly size: number };

/** Destination (relative, normal) → file. A later grant replaces an earlier one. */
export type AssetPlan = ReadonlyMap<string, PlannedFile>;

/** Opens the folder or file that a `{ source, destination }` grant names, which may lie elsewhere. */
export type OpenPlacement = (source: string) => Promise<{ readonly root: AssetRoot; readonly path: string }>;

/**
 * Finds the files that grants name (spin.md 1.9, Copy): patterns keep their path, placements go to their destination,
 * and what an exclude pattern matches is left out. Reads directories only.
 */
export async function planAssets(
  root: AssetRoot,
  grants: FileGrants,
  openPlacement: OpenPlacement,
  limits: AssetLimits = defaultAssetLimits,
): Promise<AssetPlan> {
  const planner = new Planner(
    grants.exclude.map((pattern) => Glob.parse(pattern)),
    limits,
  );
  for (const grant of grants.include) {
    if (grant.kind === 'placement') {
      const { root: placed, path } = await openPlacement(grant.source);
      const found = await placed.locate(path);
      if (found === undefined) {
        throw new ShimError('not-found', `"files" source ${quoted(grant.source)} does not exist`);
      }
      const destination = grant.destination.split('/').filter((name) => name !== '' && name !== '.');
      if (found.kind === 'directory') {
        await planner.walk(placed, found.path, path, destination.join('/'), Glob.parse('**/*'));
      } else planner.add(placed, found, path, destination.join('/'));
      continue;
    }
    const found = await root.locate(grant.pattern);
    const name = grant.pattern
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .join('/');
    if (found === undefined) await planner.walk(root, '', '', '', Glob.parse(grant.pattern));
    else if (found.kind === 'directory') await planner.walk(root, found.path, name, name, Glob.parse('**/*'));
    else planner.add(root, found, name, name);
  }
  return planner.plan;
}

class Planner {
  readonly plan = new Map<string, PlannedFile>();
  readonly #exclude: readonly Glob[];
  readonly #limits: AssetLimits;
  #bytes = 0;
  #entries = 0;

  constructor(exclude: readonly Glob[], limits: AssetLimits) {
    this.#exclude = exclude;
    this.#limits = limits;
  }

  /** Adds one file unless excluded; `written` is its path as the manifest sees it. */
  add(
    root: AssetRoot,
    found: { readonly path: string; readonly size: number },
    written: string,
    to: string,
  ): void {
    if (this.#exclude.some((glob) => glob.matchesAcrossFolders(written))) return;
    if (to === '' || to.split('/').includes('..')) {
      throw new ShimError('invalid-manifest', `file ${quoted(written)} needs a destination with a name`);
    }
    this.#bytes += found.size - (this.plan.get(to)?.size ?? 0);
    this.plan.set(to, { root, path: found.path, size: found.size });
    if (this.plan.size > this.#limits.maxFiles) {
      throw new ShimError('resource-exhausted', `"files" names more than ${this.#limits.maxFiles} files`);
    }
    if (this.#bytes > this.#limits.maxBytes) {
      throw new ShimError('resource-exhausted', `"files" names more than ${this.#limits.maxBytes} bytes`);
    }
  }

  /** Walks a located directory; `written` and `to` are its paths in the manifest's view and in the copy. */
  async walk(root: AssetRoot, directory: string, written: string, to: string, glob: Glob): Promise<void> {
    await this.#walk(root, directory, written, to, glob, glob.start(), [directory]);
  }

  async #walk(
    root: AssetRoot,
    directory: string,
    written: string,
    to: string,
    glob: Glob,
    positions: GlobPositions,
    ancestors: readonly string[],
  ): Promise<void> {
    if (ancestors.length > maxPathDepth) {
      throw new ShimError('resource-exhausted', `${quoted(written)} is deeper than ${maxPathDepth} folders`);
    }
    const names = await root.list(directory, this.#limits.maxEntries - this.#entries);
    this.#entries += names.length;
    for (const name of names) {
      const next = glob.step(positions, name);
      if (next.length === 0) continue;
      const found = await root.locateIn(directory, name);
      if (found === undefined) continue;
      if (found.kind === 'file') {
        if (glob.accepts(next)) this.add(root, found, below(written, name), below(to, name));
      } else if (!ancestors.includes(found.path)) {
        // A link to a folder above would be walked for ever.
        const path = [...ancestors, found.path];
        await this.#walk(root, found.path, below(written, name), below(to, name), glob, next, path);
      }
    }
  }
}

function below(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}
