import { constants, openSync } from 'node:fs';
import type { FileMount } from '../../app/types.ts';
import { ShimError } from '../../error.ts';
import { OpenFile } from './filesystem-open-file.ts';
import { openAsPath } from './filesystem-path.ts';

/** A directory that guests start from. */
export type Preopen = {
  /** Absolute guest path. */
  readonly destination: string;
  readonly directory: OpenFile;
  /** Whether guests may change what is in it. */
  readonly writable: boolean;
};

/** A component's directories, opened once and shared by its instances. */
export type Preopens = {
  readonly list: readonly Preopen[];
  /** Lets go of the directories; instances that still hold one keep it until they end. */
  close(): void;
};

/**
 * Opens the mounts of a component, read-only unless they say otherwise or `writable` makes all of them writable (the
 * command line's `--allow-transient-write`).
 * Throws `not-found` or `failed-precondition` when a source cannot be opened as a directory, `invalid-argument` when a
 * destination is not an absolute path or is used twice.
 */
export function openPreopens(
  mounts: readonly FileMount[],
  { writable = false }: { readonly writable?: boolean } = {},
): Preopens {
  const list: Preopen[] = [];
  const holds: (() => void)[] = [];
  const close = (): void => {
    list.length = 0;
    for (const release of holds.splice(0)) release();
  };
  try {
    for (const mount of mounts) {
      if (list.some(({ destination }) => destination === mount.destination)) {
        throw new ShimError(
          'invalid-argument',
          `two directories are mounted at "${mount.destination}": give each its own destination`,
        );
      }
      const directory = openMount(mount);
      holds.push(directory.hold());
      list.push({
        destination: mount.destination,
        directory,
        writable: writable || mount.writable === true,
      });
    }
  } catch (error) {
    close();
    throw error;
  }
  return { list, close };
}

function openMount({ source, destination }: FileMount): OpenFile {
  const what = `cannot mount "${source}" at "${destination}"`;
  if (!destination.startsWith('/') || destination.includes('\0')) {
    throw new ShimError('invalid-argument', `${what}: the destination must be an absolute path`);
  }
  try {
    return new OpenFile(openSync(source, openAsPath | constants.O_DIRECTORY));
  } catch (error) {
    const errno = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const code = errno === 'ENOENT' ? 'not-found' : 'failed-precondition';
    throw new ShimError(code, `${what}: opening the directory failed with ${errno}`, { cause: error });
  }
}
