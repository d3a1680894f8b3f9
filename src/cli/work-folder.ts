import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ShimError } from '../error.ts';

/** A folder for the files of one run. */
export type WorkFolder = {
  readonly path: string;
  /** Removes it, unless the user named it. */
  dispose(): Promise<void>;
};

/** Opens the folder that `--temp` names, made if missing, or a new one. Throws `invalid-argument`. */
export async function openWorkFolder(temp: string | undefined, cwd: string): Promise<WorkFolder> {
  if (temp === undefined) {
    const path = await mkdtemp(join(tmpdir(), 'spin-up-'));
    return { path, dispose: () => rm(path, { recursive: true, force: true }) };
  }
  const path = resolve(cwd, temp);
  await mkdir(path, { recursive: true }).catch((cause: unknown) => {
    throw new ShimError(
      'invalid-argument',
      `the folder "${path}" of --temp cannot be made: ${ShimError.from(cause).message}`,
      { cause },
    );
  });
  return { path, dispose: () => Promise.resolve() };
}

/** The folder of downloaded and transpiled components: `--cache-dir`, else `spinshim` in the user's cache folder. */
export function cacheFolder(flag: string | undefined, env: ReadonlyMap<string, string>, cwd: string): string {
  if (flag !== undefined) return resolve(cwd, flag);
  const base = env.get('XDG_CACHE_HOME');
  // The specification of XDG_CACHE_HOME has relative values ignored.
  return join(base?.startsWith('/') === true ? base : join(homedir(), '.cache'), 'spinshim');
}
