import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import type { Linked } from './link.ts';
import type { Transpiled } from './transpile.ts';

/** What an entry says of itself, `entry.json`. */
export type CacheEntry = {
  readonly imports: readonly string[];
  readonly exports: readonly string[];
  readonly coreModules: readonly string[];
  /** What runs it: jco's glue, or a plan of our linker; whether an instance of a plan can be restored. */
  readonly form: { readonly kind: 'glue' } | { readonly kind: 'plan'; readonly restorable: boolean };
};

/** File names inside an entry. */
export const glueFile = 'component.mjs';
export const planFile = 'plan.json';
const entryFile = 'entry.json';

/** Age from which a draft belongs to a preparer that was killed, milliseconds; writing one takes a second. */
const defaultDraftLifeMs = 3_600_000;

const digestForm = /^sha256:[0-9a-f]{64}$/;
const fileNameForm = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;

/**
 * Transpiled components by content: `<store>/components/<digest>-<key>/`, where the key covers everything besides the
 * component that decides the outcome. Entries appear whole (built beside, renamed) and never change. The directory is
 * readable by its owner only; nothing that an image brought is ever taken for an entry.
 */
export class ComponentCache {
  readonly #directory: string;
  readonly #key: string;
  readonly #draftLifeMs: number;

  /** `inputs` are the versions and options that shape the output, in any stable text form. */
  constructor(storeDir: string, inputs: readonly string[], options: { readonly draftLifeMs?: number } = {}) {
    this.#directory = join(storeDir, 'components');
    this.#key = createHash('sha256').update(inputs.join('\n')).digest('hex').slice(0, 16);
    this.#draftLifeMs = options.draftLifeMs ?? defaultDraftLifeMs;
  }

  /**
   * The directory an entry has or would have; `digest` is `sha256:<hex>` of the component's source. Throws
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

  async has(digest: string): Promise<boolean> {
    return stat(join(this.pathOf(digest), entryFile)).then(
      () => true,
      () => false,
    );
  }

  /** Writes an entry; when another process was faster its entry stays, both being the same. */
  async put(digest: string, transpiled: Transpiled | Linked): Promise<void> {
    const path = this.pathOf(digest);
    const draft = join(this.#directory, `.${randomUUID()}`);
    try {
      await mkdir(draft, { recursive: true, mode: 0o700 });
      await writeEntry(draft, transpiled);
      await this.#publish(digest, draft, path);
      await this.#removeOldDrafts();
    } catch (error) {
      throw new ShimError(
        'internal',
        `writing the cache entry "${path}" failed: ${String(error)}; check space and permissions`,
        { cause: error },
      );
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }

  /** A rename over a whole entry fails, which is as good; one over remains of something else moves them away first. */
  async #publish(digest: string, draft: string, path: string): Promise<void> {
    try {
      await rename(draft, path);
    } catch (error) {
      if (await this.has(digest)) return;
      const remains = join(this.#directory, `.${randomUUID()}`);
      await rename(path, remains).catch(() => {
        throw error;
      });
      await rename(draft, path);
      await rm(remains, { recursive: true, force: true });
    }
  }

  async #removeOldDrafts(): Promise<void> {
    const deadline = Date.now() - this.#draftLifeMs;
    for (const name of await readdir(this.#directory)) {
      if (!name.startsWith('.')) continue;
      const draft = join(this.#directory, name);
      const age = await stat(draft).catch(() => undefined);
      if (age !== undefined && age.mtimeMs < deadline) await rm(draft, { recursive: true, force: true });
    }
  }
}

/** Every file reaches the disk before the entry gets its name: after a power cut it is whole or absent. */
async function writeEntry(directory: string, transpiled: Transpiled | Linked): Promise<void> {
  const write = (name: string, content: string | Uint8Array): Promise<void> => {
    if (!fileNameForm.test(name))
      throw new ShimError('internal', `the transpiler made a file named "${name}"`);
    return writeFile(join(directory, name), content, { mode: 0o600, flush: true });
  };
  const entry: CacheEntry = {
    imports: transpiled.imports,
    exports: transpiled.exports,
    coreModules: transpiled.coreModules.map(([name]) => name),
    form: 'glue' in transpiled ? { kind: 'glue' } : { kind: 'plan', restorable: transpiled.restorable },
  };
  if ('glue' in transpiled) await write(glueFile, transpiled.glue);
  else await write(planFile, JSON.stringify(transpiled.plan));
  for (const [name, bytes] of transpiled.coreModules) await write(name, bytes);
  await write(entryFile, JSON.stringify(entry));
}

/** Reads an entry's description. Throws `internal` when the directory is not an entry. */
export async function readCacheEntry(directory: string): Promise<CacheEntry> {
  const unreadable = (cause: unknown): ShimError =>
    new ShimError(
      'internal',
      `the cache entry "${directory}" cannot be read: remove it and start the pod again`,
      { cause },
    );
  let entry: Partial<Record<keyof CacheEntry, unknown>>;
  try {
    entry = JSON.parse(await readFile(join(directory, entryFile), 'utf8')) as typeof entry;
  } catch (error) {
    throw unreadable(error);
  }
  const { imports, exports, coreModules, form } = entry;
  if (!isStrings(imports) || !isStrings(exports) || !isStrings(coreModules) || !isForm(form))
    throw unreadable(new Error(`"${entryFile}" lacks a part`));
  return { imports, exports, coreModules, form };
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isForm(value: unknown): value is CacheEntry['form'] {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return false;
  return value.kind === 'glue' || (value.kind === 'plan' && 'restorable' in value);
}
