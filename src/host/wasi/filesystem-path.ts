import { closeSync, constants } from 'node:fs';
import { openBeneath } from '../../linux.ts';
import { attempt, errorCodeOfErrno, fail } from './filesystem-error.ts';

/**
 * Guest paths. The kernel resolves every one of them by openat2(RESOLVE_BENEATH) from a directory's descriptor, in one
 * step: no string is joined, no check precedes a use, and no symlink, `..` or rename race leads out of the directory.
 */

/** open(2)'s O_PATH, which `node:fs` does not name: a handle to a place, opened without touching what is there. */
export const openAsPath = 0o10000000;

/** UTF-16 units of a path that is worth asking the kernel about (PATH_MAX bytes, less the final NUL). */
export const maxPathLength = 4095;

/** How often a resolution that a concurrent rename disturbed (EAGAIN of openat2) is tried again. */
export const maxResolveAttempts = 32;

function checkPath(path: string): void {
  if (path.length > maxPathLength) fail('name-too-long');
  if (path.includes('\0')) fail('invalid');
}

/** Opens `path` below `directory` with open(2) `flags`. Throws the WIT code; a way out of it is `not-permitted`. */
export function openBelow(directory: number, path: string, flags: number, mode = 0): number {
  checkPath(path);
  for (let attempts = 1; ; attempts++) {
    const opened = openBeneath(directory, path, { flags, mode });
    if (typeof opened === 'number') return opened;
    if (opened.errno === 'EAGAIN' && attempts < maxResolveAttempts) continue;
    return fail(opened.errno === 'EXDEV' ? 'not-permitted' : errorCodeOfErrno(opened.errno));
  }
}

/** Runs `operation` with an O_PATH descriptor of `path`, closed afterwards. */
export function withPath<T>(
  directory: number,
  path: string,
  followFinal: boolean,
  operation: (fd: number) => T,
): T {
  const fd = openBelow(directory, path, openAsPath | (followFinal ? 0 : constants.O_NOFOLLOW));
  try {
    return attempt(() => operation(fd));
  } finally {
    closeSync(fd);
  }
}

/** The object behind a descriptor, as a path for calls of `node:fs` that take one. */
export function placeOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** A guest path cut before its final name. */
export type SplitPath = {
  /** Path of the parent directory, '' for the starting directory itself. */
  readonly parent: string;
  /** One name without a slash; never empty, `.` or `..`. */
  readonly name: string;
  readonly trailingSlash: boolean;
};

/** Cuts a path in two. Throws `not-permitted` when it is absolute, `invalid` when its final name is `.` or `..`. */
export function splitPath(path: string): SplitPath {
  checkPath(path);
  if (path === '') fail('no-entry');
  if (path.startsWith('/')) fail('not-permitted');
  let end = path.length;
  while (path[end - 1] === '/') end--;
  const start = path.lastIndexOf('/', end - 1) + 1;
  const name = path.slice(start, end);
  if (name === '.' || name === '..') fail('invalid');
  return { parent: path.slice(0, start), name, trailingSlash: end < path.length };
}

/**
 * Runs `operation` with a path of the form `<pinned parent directory>/<final name>`: the parent is held open, so only
 * the final name is left to resolve, and the system calls used with it do not follow a symlink there.
 */
export function atParent<T>(directory: number, split: SplitPath, operation: (place: string) => T): T {
  if (split.parent === '') return attempt(() => operation(`${placeOf(directory)}/${split.name}`));
  const parent = openBelow(directory, split.parent, openAsPath | constants.O_DIRECTORY);
  try {
    return attempt(() => operation(`${placeOf(parent)}/${split.name}`));
  } finally {
    closeSync(parent);
  }
}

/**
 * Whether a symlink at `linkPath` with this relative `target` stays within the directory both start from, taken by
 * their letters. Resolution never relies on it; it keeps guests from leaving traps for programs that follow links.
 */
export function staysWithin(linkPath: string, target: string): boolean {
  let depth = 0;
  const parent = splitPath(linkPath).parent;
  for (const segment of `${parent}/${target}`.split('/')) {
    if (segment === '' || segment === '.') continue;
    depth += segment === '..' ? -1 : 1;
    if (depth < 0) return false;
  }
  return true;
}
