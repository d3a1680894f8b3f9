import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import type { Transpiled } from './transpile.ts';

/** What an entry says of itself, `entry.json`. */
export type CacheEntry = {
  readonly imports: readonly string[];
  readonly exports: readonly string[];
  readonly coreModules: readonly string[];
};

/** File names inside an entry. */
export const glueFile = 'component.mjs';
const entryFile = 'entry.json';

/**
 * Transpiled components by content: `<store>/components/<digest>-<key>/`, where the key covers everything besides the
 * component that decides the outcome. Entries appear whole (built beside, renamed) and never change. The directory is
 * readable by its owner only; nothing that an image brought is ever taken for an entry.
 */
export class ComponentCache {
  readonly #directory: string;
  readonly #key: string;

  /** `inputs` are the versions and options that shape the output, in any stable text form. */
  constructor(storeDir: string, inputs: readonly string[]) {
    this.#directory = join(storeDir, 'components');
    this.#key = createHash('sha256').update(inputs.join('\n')).digest('hex').slice(0, 16);
  }

  /** The directory an entry has or would have; `digest` is `sha256:<hex>` of the component's source. */
  pathOf(digest: string): string {
    return join(this.#directory, `${digest.replace(':', '-')}-${this.#key}`);
  }

  async has(digest: string): Promise<boolean> {
    return stat(join(this.pathOf(digest), entryFile)).then(
      () => true,
      () => false,
    );
  }

  /** Writes an entry; when another process was faster its entry stays, both being the same. */
  async put(digest: string, transpiled: Transpiled): Promise<void> {
    const path = this.pathOf(digest);
    const draft = join(this.#directory, `.${randomUUID()}`);
    await mkdir(draft, { recursive: true, mode: 0o700 });
    try {
      const entry: CacheEntry = {
        imports: transpiled.imports,
        exports: transpiled.exports,
        coreModules: transpiled.coreModules.map(([name]) => name),
      };
      await writeFile(join(draft, glueFile), transpiled.glue, { mode: 0o600 });
      for (const [name, bytes] of transpiled.coreModules)
        await writeFile(join(draft, name), bytes, { mode: 0o600 });
      await writeFile(join(draft, entryFile), JSON.stringify(entry), { mode: 0o600 });
      await rename(draft, path);
    } catch (error) {
      if (!(await this.has(digest))) {
        throw new ShimError(
          'internal',
          `writing the cache entry "${path}" failed: ${String(error)}; check space and permissions`,
          {
            cause: error,
          },
        );
      }
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }
}

/** Reads an entry's description. Throws `internal` when the directory is not an entry. */
export async function readCacheEntry(directory: string): Promise<CacheEntry> {
  try {
    return JSON.parse(await readFile(join(directory, entryFile), 'utf8')) as CacheEntry;
  } catch (error) {
    throw new ShimError(
      'internal',
      `the cache entry "${directory}" cannot be read: remove it and start the pod again`,
      {
        cause: error,
      },
    );
  }
}
