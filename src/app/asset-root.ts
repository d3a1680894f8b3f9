import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, opendir, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { quoted } from './manifest-key.ts';

/** Most symbolic links that are followed for one path, as in Linux. */
export const maxSymlinks = 40;

/** Most names in one path below a root. */
export const maxPathDepth = 128;

/** A file or directory below a root, all symbolic links followed. */
export type Located = {
  readonly kind: 'file' | 'directory';
  /** Path below the root without links, '' for the root. */
  readonly path: string;
  /** Bytes of a file. */
  readonly size: number;
};

/**
 * What an absolute symbolic link below a root means: a path from that root (the file system of a container), or a path
 * of this machine, which is good only if it leads below the root again.
 */
export type AbsoluteLinks = 'from-root' | 'of-machine';

function errorCode(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : String(thrown);
}

/** A folder that is not trusted: whatever it holds, nothing outside of it is ever opened. */
export class AssetRoot {
  /** Absolute path without links. */
  readonly directory: string;
  readonly #absoluteLinks: AbsoluteLinks;

  private constructor(directory: string, absoluteLinks: AbsoluteLinks) {
    this.directory = directory;
    this.#absoluteLinks = absoluteLinks;
  }

  /** Takes a folder as root; `not-found` if it does not exist. */
  static async open(directory: string, absoluteLinks: AbsoluteLinks): Promise<AssetRoot> {
    try {
      return new AssetRoot(await realpath(directory), absoluteLinks);
    } catch (cause) {
      throw new ShimError('not-found', `folder "${directory}" cannot be opened: ${errorCode(cause)}`, {
        cause,
      });
    }
  }

  /** The absolute path of a located path. */
  absolute(path: string): string {
    return join(this.directory, path);
  }

  /**
   * Finds what a path below the root stands for, following links by hand. Undefined if there is nothing;
   * `permission-denied` if the path or a link leads out; `invalid-manifest` for devices, sockets and FIFOs.
   */
  async locate(path: string): Promise<Located | undefined> {
    const pending = path.split('/').reverse();
    const walked: string[] = [];
    let links = 0;
    let stats: Stats | undefined;
    while (pending.length > 0) {
      const name = pending.pop() ?? '';
      if (name === '' || name === '.') continue;
      // Only a directory has anything below it; Linux says so for `file/..` too.
      if (stats !== undefined && !stats.isDirectory()) return undefined;
      if (name === '..') {
        if (walked.pop() === undefined) throw this.#leaves(path);
        stats = undefined;
        continue;
      }
      if (walked.length >= maxPathDepth) {
        throw new ShimError(
          'resource-exhausted',
          `path ${quoted(path)} is deeper than ${maxPathDepth} names`,
        );
      }
      const candidate = this.absolute([...walked, name].join('/'));
      stats = await lstatIfPresent(candidate);
      if (stats === undefined) return undefined;
      if (!stats.isSymbolicLink()) {
        walked.push(name);
        continue;
      }
      if (++links > maxSymlinks) {
        throw new ShimError(
          'permission-denied',
          `path ${quoted(path)} follows more than ${maxSymlinks} links`,
        );
      }
      stats = undefined;
      const target = await readlink(candidate);
      if (target.startsWith('/')) walked.length = 0;
      pending.push(...this.#targetNames(target, path).reverse());
    }
    stats ??= await lstatIfPresent(this.absolute(walked.join('/')));
    return stats && this.#located(walked.join('/'), stats);
  }

  /** As `locate`, for a name that `list` gave for a located directory: one look unless the name is a link. */
  async locateIn(directory: string, name: string): Promise<Located | undefined> {
    const path = directory === '' ? name : `${directory}/${name}`;
    const stats = await lstatIfPresent(this.absolute(path));
    if (stats === undefined || stats.isSymbolicLink()) return this.locate(path);
    // Devices and the like are no files to grant.
    return stats.isFile() || stats.isDirectory() ? this.#located(path, stats) : undefined;
  }

  #located(path: string, stats: Stats): Located {
    if (stats.isDirectory()) return { kind: 'directory', path, size: 0 };
    if (stats.isFile()) return { kind: 'file', path, size: stats.size };
    throw new ShimError('invalid-manifest', `${quoted(path)} is neither a regular file nor a directory`);
  }

  #targetNames(target: string, path: string): string[] {
    if (!target.startsWith('/') || this.#absoluteLinks === 'from-root') return target.split('/');
    const prefix = this.directory === '/' ? '/' : `${this.directory}/`;
    if (`${target}/`.startsWith(prefix)) return target.slice(prefix.length).split('/');
    throw this.#leaves(path);
  }

  #leaves(path: string): ShimError {
    const text = `path ${quoted(path)} leads out of folder "${this.directory}"; move what it names into the folder`;
    return new ShimError('permission-denied', text);
  }

  /** Names in a located directory, sorted, so that every load sees the same order; at most `maxNames` of them. */
  async list(path: string, maxNames: number): Promise<readonly string[]> {
    const names: string[] = [];
    for await (const { name } of await opendir(this.absolute(path))) {
      if (names.length >= maxNames) {
        const text = `folder ${quoted(path)} has more than the ${maxNames} names that may be looked at; use narrower patterns`;
        throw new ShimError('resource-exhausted', text);
      }
      names.push(name);
    }
    return names.toSorted();
  }

  /**
   * Opens a located file for reading. Each name of the path is opened without following links, from the directory
   * before it, so that a link put in its place after `locate` fails instead of leading out.
   */
  async openFile(path: string): Promise<FileHandle> {
    const names = path.split('/');
    const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    let handle = await open(this.directory, directoryFlags);
    try {
      for (const [index, name] of names.entries()) {
        const last = index === names.length - 1;
        const fileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
        const next = await open(`/proc/self/fd/${handle.fd}/${name}`, last ? fileFlags : directoryFlags);
        await handle.close();
        handle = next;
      }
      if (!(await handle.stat()).isFile()) {
        throw new ShimError('invalid-manifest', `${quoted(path)} is not a regular file`);
      }
      return handle;
    } catch (cause) {
      await handle.close();
      if (cause instanceof ShimError) throw cause;
      const text = `file ${quoted(path)} in "${this.directory}" cannot be opened: ${errorCode(cause)}`;
      throw new ShimError('permission-denied', text, { cause });
    }
  }
}

async function lstatIfPresent(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new ShimError('permission-denied', `"${path}" cannot be looked at: ${code}`, { cause });
  }
}
