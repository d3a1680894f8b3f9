import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckedFiles } from '../engine/checked-files.ts';
import type { PreparedApp } from '../engine/prepared-app.ts';
import {
  isMissing,
  makeSealKey,
  readSealed,
  readSealKey,
  takeOwnFolder,
  writeSealed,
} from '../engine/sealed-file.ts';
import { ShimError } from '../error.ts';
import { Lock } from './lock.ts';

/** Stands for the container's root file system in what is kept. No path begins with it. */
const rootfsToken = 'rootfs:';

/** Apps kept in memory; the rest is read from the disk again. */
const maxRemembered = 256;

/** Apps kept on the disk; those written first go first. */
export const maxKeptApps = 1024;

/** Bytes of one kept app. */
const maxAppBytes = 16 * 1024 * 1024;

/**
 * Remembers what an image was prepared to, in memory and as `<store>/apps/<key>`, sealed, so that the next container of
 * the image starts without a preparer: what an app may do is read from it, so no file that this node did not write counts. Kept are apps whose files all lie in the store or in the image's root file
 * system, which every container of the image has at a place of its own; others go with their container.
 */
export class AppMemo {
  /** What is known of the files of the apps that run, kept on the disk or not. */
  readonly checked = new CheckedFiles();
  readonly #storeDir: string;
  readonly #version: string;
  readonly #warn: (line: string) => void;
  readonly #apps = new Map<string, PreparedApp>();
  /** Key → so that one image is prepared once, however many containers of it come at the same time. */
  readonly #locks = new Map<string, Lock>();

  /** `version`: ours; another version prepares anew. `warn` is told of files that are not to be trusted. */
  constructor(storeDir: string, version: string, warn: (line: string) => void = () => {}) {
    this.#storeDir = storeDir;
    this.#version = version;
    this.#warn = warn;
  }

  /**
   * The app of an image (by its target's digest) with the given components, prepared by `prepare` if need be; `rootfs`
   * is where this container has the image's root file system. `anew`: what is remembered turned out not to run.
   */
  async get(
    image: { readonly digest: string; readonly rootfs: string },
    retain: readonly string[] | undefined,
    prepare: () => Promise<PreparedApp>,
    anew = false,
  ): Promise<PreparedApp> {
    const parts = [this.#version, image.digest, retain === undefined ? '' : JSON.stringify(retain)];
    const key = createHash('sha256').update(parts.join('\n')).digest('hex');
    const lock = this.#locks.get(key) ?? new Lock();
    this.#locks.set(key, lock);
    try {
      return await lock.run(() => this.#find(key, image.rootfs, prepare, anew));
    } finally {
      if (lock.idle) this.#locks.delete(key);
    }
  }

  async #find(
    key: string,
    rootfs: string,
    prepare: () => Promise<PreparedApp>,
    anew: boolean,
  ): Promise<PreparedApp> {
    const kept = anew ? undefined : (this.#apps.get(key) ?? this.#read(key));
    const known = kept === undefined ? undefined : mapPaths(kept, (path) => toRootfs(path, rootfs));
    if (kept !== undefined && known !== undefined && isWhole(known)) {
      this.#remember(key, kept);
      return known;
    }
    const prepared = await prepare();
    const general = mapPaths(prepared, (path) => fromRootfs(path, rootfs));
    if (this.#isShareable(general)) {
      this.#remember(key, general);
      await this.#write(key, general);
    }
    return prepared;
  }

  #remember(key: string, app: PreparedApp): void {
    this.#apps.delete(key);
    this.#apps.set(key, app);
    const [oldest] = this.#apps.keys();
    if (this.#apps.size > maxRemembered && oldest !== undefined) this.#apps.delete(oldest);
  }

  #file(key: string): string {
    return join(this.#storeDir, 'apps', key);
  }

  #read(key: string): PreparedApp | undefined {
    try {
      const payload = readSealed(this.#file(key), readSealKey(this.#storeDir), labelOf(key), maxAppBytes);
      return JSON.parse(payload.toString('utf8')) as PreparedApp;
    } catch (thrown) {
      if (!isMissing(thrown)) this.#warn(`${ShimError.from(thrown).message}; the app is prepared again`);
      return undefined;
    }
  }

  async #write(key: string, app: PreparedApp): Promise<void> {
    takeOwnFolder(join(this.#storeDir, 'apps'), this.#warn);
    const sealKey = await makeSealKey(this.#storeDir, this.#warn);
    await writeSealed(this.#file(key), sealKey, labelOf(key), [Buffer.from(JSON.stringify(app))]);
    await this.#shrink();
  }

  async #shrink(): Promise<void> {
    const folder = join(this.#storeDir, 'apps');
    const names = await readdir(folder);
    if (names.length <= maxKeptApps) return;
    const files: { path: string; writtenAt: number }[] = [];
    for (const name of names) {
      const path = join(folder, name);
      const info = await lstat(path).catch(() => undefined);
      if (info !== undefined) files.push({ path, writtenAt: info.mtimeMs });
    }
    const surplus = files.toSorted((a, b) => a.writtenAt - b.writtenAt).slice(0, files.length - maxKeptApps);
    for (const { path } of surplus) await rm(path, { recursive: true, force: true });
  }

  #isShareable(app: PreparedApp): boolean {
    const bases = [`${this.#storeDir}/`, rootfsToken];
    return pathsOf(app).every((path) => bases.some((base) => path.startsWith(base)));
  }
}

function labelOf(key: string): string {
  return `app ${key}`;
}

function fromRootfs(path: string, rootfs: string): string {
  return path.startsWith(`${rootfs}/`) ? `${rootfsToken}${path.slice(rootfs.length)}` : path;
}

function toRootfs(path: string, rootfs: string): string {
  return path.startsWith(rootfsToken) ? `${rootfs}${path.slice(rootfsToken.length)}` : path;
}

function isWhole(app: PreparedApp): boolean {
  return pathsOf(app).every((path) => existsSync(path));
}

/** Everything on the node that a prepared app needs. */
function pathsOf(app: PreparedApp): readonly string[] {
  const paths: string[] = [];
  mapPaths(app, (path) => {
    paths.push(path);
    return path;
  });
  return paths;
}

/** The app with every path of the node changed. */
function mapPaths({ app, components }: PreparedApp, change: (path: string) => string): PreparedApp {
  return {
    app: {
      ...app,
      components: app.components.map((component) => ({
        ...component,
        source: { ...component.source, path: change(component.source.path) },
        files: component.files.map((mount) => ({ ...mount, source: change(mount.source) })),
      })),
    },
    components: components.map((entry) => ({ ...entry, entryPath: change(entry.entryPath) })),
  };
}
