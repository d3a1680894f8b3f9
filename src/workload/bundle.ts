import { chmodSync, mkdirSync, realpathSync } from 'node:fs';
import { lstat, open, readFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { ShimError } from '../error.ts';
import { parseSpec, type Spec } from './spec.ts';
import { specLimits } from './spec-json.ts';

/** A container's bundle directory, as containerd made it. */
export type Bundle = {
  readonly path: string;
  readonly spec: Spec;
  /** Where the root file system belongs, absolute. */
  readonly rootfs: string;
};

/** Reads a bundle. Throws `invalid-argument` if it is not a directory with a sound config.json. */
export async function readBundle(path: string): Promise<Bundle> {
  if (!isAbsolute(path)) throw new ShimError('invalid-argument', `bundle "${path}" is not an absolute path`);
  const spec = parseSpec(await readBounded(join(path, 'config.json'), specLimits.maxBytes));
  return { path, spec, rootfs: isAbsolute(spec.rootPath) ? spec.rootPath : join(path, spec.rootPath) };
}

/**
 * The directory for what a container keeps (key-value, SQLite): `state` below the bundle's `work` symlink, or below
 * the bundle where there is none. Mode 0700. At once: a folder takes the file system less time than the way to another
 * thread and back, and a pod waits.
 */
export function makeStateDirectory(bundle: string): string {
  const state = join(parentOfState(bundle), 'state');
  mkdirSync(state, { recursive: true, mode: 0o700 });
  chmodSync(state, 0o700);
  return state;
}

function parentOfState(bundle: string): string {
  try {
    return realpathSync(join(bundle, 'work'));
  } catch {
    return bundle;
  }
}

/** What a bundle's optional file holds; undefined if there is none. */
export async function readBundleFile(
  bundle: string,
  name: string,
  maxBytes: number,
): Promise<Buffer | undefined> {
  const path = join(bundle, name);
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || !found.isFile() || found.size > maxBytes) return undefined;
  return readFile(path).catch(() => undefined);
}

async function readBounded(path: string, maxBytes: number): Promise<string> {
  const file = await open(path).catch((cause: unknown) => {
    throw new ShimError('invalid-argument', `"${path}" cannot be opened: ${String(cause)}`, { cause });
  });
  try {
    const { size } = await file.stat();
    if (size > maxBytes) {
      throw new ShimError(
        'invalid-argument',
        `"${path}" is ${size} bytes long; at most ${maxBytes} are read`,
      );
    }
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}
