import { closeSync, constants, fstatSync, lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { posix } from 'node:path';
import type { Component, FileMount } from '../app/types.ts';
import { openBelow } from '../host/wasi/filesystem-path.ts';
import { openPreopens } from '../host/wasi/filesystem-preopens.ts';
import { CommandFailure } from './command.ts';

/** Entries of a directory that are listed. */
const maxEntries = 10_000;

/** Bytes read at once. */
const chunkBytes = 64 * 1024;

/** One line of a listing. */
export type FileEntry = {
  readonly name: string;
  readonly kind: 'directory' | 'file' | 'link' | 'other';
  /** Bytes; 0 for what has none. */
  readonly size: number;
  readonly modified: Date;
  /** Where a symlink points, as it stands. */
  readonly target?: string;
};

/**
 * The files a component sees, resolved as its guests' paths are: by the kernel, strictly below what is mounted. Above
 * the mounts there is nothing but the names that lead to them.
 */
export class FileView {
  readonly #mounts: readonly FileMount[];

  constructor({ files }: Component) {
    this.#mounts = files;
  }

  /** A directory's entries, or the file itself; undefined if there is nothing of that name. */
  list(path: string): readonly FileEntry[] | undefined {
    const absolute = posix.resolve('/', path);
    const leading = this.#leadingNames(absolute).map(
      (name): FileEntry => ({ name, kind: 'directory', size: 0, modified: new Date(0) }),
    );
    const fd = this.#open(absolute);
    if (fd === undefined) return leading.length === 0 ? undefined : leading;
    try {
      const stat = fstatSync(fd);
      if (!stat.isDirectory()) return [entryOf(path, stat)];
      const folder = `/proc/self/fd/${fd}`;
      const names = readdirSync(folder);
      if (names.length > maxEntries) {
        throw new CommandFailure(`"${path}" has ${names.length} entries, at most ${maxEntries} are listed`);
      }
      const own = names.sort().flatMap((name) => entriesNamed(folder, name));
      return [...own, ...leading.filter(({ name }) => !names.includes(name))];
    } finally {
      closeSync(fd);
    }
  }

  /** Whether it is a directory or something else; undefined if there is nothing of that name. */
  kind(path: string): 'directory' | 'file' | undefined {
    const absolute = posix.resolve('/', path);
    const fd = this.#open(absolute);
    if (fd === undefined) {
      return absolute === '/' || this.#leadingNames(absolute).length > 0 ? 'directory' : undefined;
    }
    try {
      return fstatSync(fd).isDirectory() ? 'directory' : 'file';
    } finally {
      closeSync(fd);
    }
  }

  /** A regular file in pieces; undefined if there is nothing of that name. */
  read(path: string): AsyncGenerator<Uint8Array> | undefined {
    const fd = this.#open(posix.resolve('/', path));
    return fd === undefined ? undefined : piecesOf(fd, path);
  }

  /** Names in `path` that lead to mounts below it. */
  #leadingNames(path: string): readonly string[] {
    const base = path === '/' ? '/' : `${path}/`;
    const names = this.#mounts.flatMap(({ destination }) => {
      if (destination === path || !destination.startsWith(base)) return [];
      return [destination.slice(base.length).split('/', 1)[0] ?? ''];
    });
    return [...new Set(names)];
  }

  /** Opens an absolute path in the mount it belongs to. A way out of the mount is told as such. */
  #open(path: string): number | undefined {
    const mount = this.#mounts
      .filter(({ destination }) => destination === '/' || `${path}/`.startsWith(`${destination}/`))
      .toSorted((left, right) => right.destination.length - left.destination.length)[0];
    if (mount === undefined) return undefined;
    const below = path.slice(mount.destination === '/' ? 1 : mount.destination.length + 1);
    const preopens = openPreopens([mount]);
    try {
      const directory = preopens.list[0]?.directory.fd ?? -1;
      return openBelow(directory, below === '' ? '.' : below, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (thrown) {
      if (thrown === 'no-entry' || thrown === 'not-directory') return undefined;
      if (typeof thrown !== 'string') throw thrown;
      // The codes of wasi:filesystem are words.
      throw new CommandFailure(`"${path}" cannot be opened: ${thrown.replaceAll('-', ' ')}`);
    } finally {
      preopens.close();
    }
  }
}

async function* piecesOf(fd: number, path: string): AsyncGenerator<Uint8Array> {
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw new CommandFailure(`"${path}" is a directory`);
    if (!stat.isFile()) throw new CommandFailure(`"${path}" is not a regular file`);
    const file = await open(`/proc/self/fd/${fd}`, constants.O_RDONLY);
    try {
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(chunkBytes), 0, chunkBytes);
        if (bytesRead === 0) return;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  } finally {
    closeSync(fd);
  }
}

/** A name of a folder; none if it is gone by now. A symlink is not followed. */
function entriesNamed(folder: string, name: string): readonly FileEntry[] {
  const stat = lstatSync(`${folder}/${name}`, { throwIfNoEntry: false });
  if (stat === undefined) return [];
  const entry = entryOf(name, stat);
  return [entry.kind === 'link' ? { ...entry, target: readlinkSync(`${folder}/${name}`) } : entry];
}

function entryOf(name: string, stat: Stats): FileEntry {
  const kind = stat.isDirectory()
    ? 'directory'
    : stat.isFile()
      ? 'file'
      : stat.isSymbolicLink()
        ? 'link'
        : 'other';
  return { name, kind, size: kind === 'file' ? stat.size : 0, modified: stat.mtime };
}
