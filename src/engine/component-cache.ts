import { mkdirSync } from 'node:fs';
import { lstat, open, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import { lockFile } from '../linux.ts';
import { nodeCrypto } from '../node-crypto.ts';
import { type EntryContent, entryRevision, packEntry, unpackEntry } from './component-entry.ts';
import {
  type CheckedFile,
  isMissing,
  makeSealKey,
  readSealKey,
  removeOldest,
  SealedFile,
  takeOwnFolder,
  writeSealed,
} from './sealed-file.ts';

/** Bytes of one entry; what a component may have at most, and room for what is made of it. */
const maxEntryBytes = 1024 ** 3;

/** Bytes of all entries of a store unless the configuration says otherwise. */
export const defaultMaxCacheBytes = 2 * 1024 ** 3;

/** Age from which a draft belongs to a preparer that was killed, milliseconds; writing one takes a second. */
const defaultDraftLifeMs = 3_600_000;

/** Files that stand for entries under work: the place of an entry among them is a matter of its digest. */
const lockCount = 64;

const digestForm = /^sha256:[0-9a-f]{64}$/;
const entryForm = /^sha256-[0-9a-f]{64}-[0-9a-f]{16}$/;

export type CacheOptions = {
  /** Least recently used entries are removed above it, the newest never. */
  readonly maxBytes?: number;
  readonly draftLifeMs?: number;
  /** Told of entries that are not to be trusted or damaged, and are made again. */
  readonly warn?: (line: string) => void;
  /** Told of entries whose seal is known to be right from now on. */
  readonly checked?: (file: CheckedFile) => void;
};

/**
 * Components made ready to run, by content: `<store>/components/<digest>-<key>`, where the key covers everything besides
 * the component that decides the outcome. An entry is one sealed file: it appears whole, never changes, and counts only
 * when this node's shim wrote it under this very name. Whatever else lies there is removed, and the entry made again.
 * For the preparer, a process of its own: waiting for another one's work stops the thread.
 */
export class ComponentCache {
  readonly #storeDir: string;
  readonly #directory: string;
  readonly #key: string;
  readonly #maxBytes: number;
  readonly #draftLifeMs: number;
  readonly #warn: (line: string) => void;
  readonly #checked: (file: CheckedFile) => void;
  #sealKey: Promise<Buffer> | undefined;

  /** `inputs` are the versions and options that shape the output, in any stable text form. */
  constructor(storeDir: string, inputs: readonly string[], options: CacheOptions = {}) {
    this.#storeDir = storeDir;
    this.#directory = join(storeDir, 'components');
    this.#key = nodeCrypto()
      .createHash('sha256')
      .update([entryRevision, ...inputs].join('\n'))
      .digest('hex')
      .slice(0, 16);
    this.#maxBytes = options.maxBytes ?? defaultMaxCacheBytes;
    this.#draftLifeMs = options.draftLifeMs ?? defaultDraftLifeMs;
    this.#warn = options.warn ?? (() => {});
    this.#checked = options.checked ?? (() => {});
  }

  /**
   * The path an entry has or would have; `digest` is `sha256:<hex>` of the component's source. Throws
   * `invalid-argument` for anything else.
   */
  pathOf(digest: string): string {
    if (!digestForm.test(digest)) {
      throw new ShimError(
        'invalid-argument',
        `"${digest}" is not the digest of a component: expected "sha256:" and 64 hexadecimal digits`,
      );
    }
    return join(this.#directory, `${digest.replace(':', '-')}-${this.#key}`);
  }

  /** Whether there is an entry that can be trusted; it counts as used now. */
  async has(digest: string): Promise<boolean> {
    const path = this.pathOf(digest);
    try {
      const key = await this.#open();
      const { file } = openEntry(path, () => key);
      file.release();
      if (file.checked !== undefined) this.#checked(file.checked);
      return true;
    } catch (thrown) {
      if (isMissing(thrown)) return false;
      const { code, message } = ShimError.from(thrown);
      if (code !== 'data-loss') throw thrown;
      this.#warn(`${message}; the component is prepared again`);
      await rm(path, { recursive: true, force: true });
      return false;
    }
  }

  /**
   * Makes the entry unless it is there. Of all preparers of a node that want one at once, whichever host they belong to,
   * one makes it and the others wait for that; when it fails or dies the next one tries.
   */
  async ensure(digest: string, make: () => Promise<EntryContent>): Promise<void> {
    if (await this.has(digest)) return;
    const unlock = await this.#lock(digest);
    try {
      if (!(await this.has(digest))) await this.#put(digest, await make());
    } finally {
      await unlock();
    }
  }

  async #put(digest: string, content: EntryContent): Promise<void> {
    const path = this.pathOf(digest);
    const payload = packEntry(content);
    try {
      const key = await this.#open();
      const checked = await writeSealed(path, key, labelOf(path), payload);
      if (checked !== undefined) this.#checked(checked);
      await this.#removeOldDrafts();
      await this.#shrink(path);
    } catch (error) {
      throw new ShimError(
        'internal',
        `writing the cache entry "${path}" failed: ${String(error)}; check space and permissions`,
        { cause: error },
      );
    }
  }

  #open(): Promise<Buffer> {
    this.#sealKey ??= (async () => {
      takeOwnFolder(this.#directory, this.#warn);
      return makeSealKey(this.#storeDir, this.#warn);
    })();
    return this.#sealKey;
  }

  async #lock(digest: string): Promise<() => Promise<void>> {
    const folder = join(this.#storeDir, 'locks');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const place = Number.parseInt(digest.slice(-2), 16) % lockCount;
    const file = await open(join(folder, String(place)), 'a', 0o600);
    try {
      lockFile(file.fd);
    } catch (error) {
      await file.close();
      throw error;
    }
    return () => file.close();
  }

  async #removeOldDrafts(): Promise<void> {
    const deadline = Date.now() - this.#draftLifeMs;
    for (const name of await readdir(this.#directory)) {
      if (entryForm.test(name)) continue;
      const path = join(this.#directory, name);
      const info = await lstat(path).catch(() => undefined);
      const isDraft = info?.isFile() === true && name.startsWith('.') && info.mtimeMs >= deadline;
      if (!isDraft) await rm(path, { recursive: true, force: true });
    }
  }

  /** Removes what was used least recently until the rest is within the bound. Engines that run hold what they need of it. */
  async #shrink(newest: string): Promise<void> {
    const isRemovable = (path: string): boolean => path !== newest && entryForm.test(basename(path));
    await removeOldest(this.#directory, this.#maxBytes, isRemovable);
  }
}

function labelOf(path: string): string {
  return `component ${basename(path)}`;
}

/** An entry that is open; `content` has views of the file's payload, and goes with it. */
export type OpenEntry = { readonly content: EntryContent; readonly file: SealedFile };

/**
 * Opens an entry for running it, checked unless it is the file that is `known`; it counts as used now. `digest` is that of
 * the component it is to be made of. Throws `data-loss` when there is none that can be trusted: it has to be prepared again.
 */
export function openCacheEntry(path: string, digest: string, known?: CheckedFile): OpenEntry {
  try {
    if (!basename(path).startsWith(`${digest.replace(':', '-')}-`))
      throw new ShimError('data-loss', `"${path}" is not used: it is not of ${digest}`);
    return openEntry(path, () => readSealKey(join(dirname(path), '..')), known);
  } catch (thrown) {
    if (!isMissing(thrown)) throw thrown;
    throw new ShimError('data-loss', ShimError.from(thrown).message, { cause: thrown });
  }
}

function openEntry(path: string, key: () => Buffer, known?: CheckedFile): OpenEntry {
  const label = labelOf(path);
  const file = SealedFile.open(path, { key, label, maxBytes: maxEntryBytes, touch: true, known });
  try {
    return { content: unpackEntry(file.payload, path), file };
  } catch (thrown) {
    file.release();
    throw thrown;
  }
}
