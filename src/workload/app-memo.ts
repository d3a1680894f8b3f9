import { createHash, randomUUID } from 'node:crypto';
import { access, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PreparedApp } from '../engine/prepared-app.ts';
import { Lock } from './lock.ts';

/** Stands for the container's root file system in what is kept. No path begins with it. */
const rootfsToken = 'rootfs:';

/** Apps kept in memory; the rest is read from the disk again. */
const maxRemembered = 256;

/**
 * Remembers what an image was prepared to, in memory and as `<store>/apps/<key>.json`, so that the next container of
 * the image starts without a preparer. Kept are apps whose files all lie in the store or in the image's root file
 * system, which every container of the image has at a place of its own; others go with their container.
 */
export class AppMemo {
  readonly #storeDir: string;
  readonly #version: string;
  readonly #apps = new Map<string, PreparedApp>();
  /** Key → so that one image is prepared once, however many containers of it come at the same time. */
  readonly #locks = new Map<string, Lock>();

  /** `version`: ours; another version prepares anew. */
  constructor(storeDir: string, version: string) {
    this.#storeDir = storeDir;
    this.#version = version;
  }

  /**
   * The app of an image (by its target's digest) with the given components, prepared by `prepare` if need be; `rootfs`
   * is where this container has the image's root file system.
   */
  async get(
    image: { readonly digest: string; readonly rootfs: string },
    retain: readonly string[] | undefined,
    prepare: () => Promise<PreparedApp>,
  ): Promise<PreparedApp> {
    const parts = [this.#version, image.digest, retain === undefined ? '' : JSON.stringify(retain)];
    const key = createHash('sha256').update(parts.join('\n')).digest('hex');
    const lock = this.#locks.get(key) ?? new Lock();
    this.#locks.set(key, lock);
    try {
      return await lock.run(() => this.#find(key, image.rootfs, prepare));
    } finally {
      if (lock.idle) this.#locks.delete(key);
    }
  }

  async #find(key: string, rootfs: string, prepare: () => Promise<PreparedApp>): Promise<PreparedApp> {
    const kept = this.#apps.get(key) ?? (await this.#read(key));
    const known = kept === undefined ? undefined : mapPaths(kept, (path) => toRootfs(path, rootfs));
    if (kept !== undefined && known !== undefined && (await isWhole(known))) {
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
    return join(this.#storeDir, 'apps', `${key}.json`);
  }

  async #read(key: string): Promise<PreparedApp | undefined> {
    try {
      return JSON.parse(await readFile(this.#file(key), 'utf8')) as PreparedApp;
    } catch {
      return undefined;
    }
  }

  async #write(key: string, app: PreparedApp): Promise<void> {
    const path = this.#file(key);
    const draft = `${path}.${randomUUID()}`;
    await mkdir(join(this.#storeDir, 'apps'), { recursive: true, mode: 0o700 });
    await writeFile(draft, JSON.stringify(app), { mode: 0o600 });
    await rename(draft, path);
  }

  #isShareable(app: PreparedApp): boolean {
    const bases = [`${this.#storeDir}/`, rootfsToken];
    return pathsOf(app).every((path) => bases.some((base) => path.startsWith(base)));
  }
}

function fromRootfs(path: string, rootfs: string): string {
  return path.startsWith(`${rootfs}/`) ? `${rootfsToken}${path.slice(rootfs.length)}` : path;
}

function toRootfs(path: string, rootfs: string): string {
  return path.startsWith(rootfsToken) ? `${rootfs}${path.slice(rootfsToken.length)}` : path;
}

async function isWhole(app: PreparedApp): Promise<boolean> {
  const found = await Promise.allSettled(pathsOf(app).map((path) => access(path)));
  return found.every((result) => result.status === 'fulfilled');
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
    components: components.map((entry) => ({ ...entry, directory: change(entry.directory) })),
  };
}
