import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs';
import { posix } from 'node:path';
import { openBeneath } from '../linux.ts';
import type { Bundle } from './bundle.ts';
import type { SpecMount } from './spec.ts';

/** Most symlinks on the way to a program; the kernel's own bound (path_resolution(7)). */
const maxLinks = 40;

/** Longest path that is looked up, bytes (PATH_MAX). */
const maxPathBytes = 4096;

/** How a program begins that the kernel runs without being told of its format: an ELF file, a script. */
const magics = ['\x7fELF', '#!'];

/**
 * The path, in the container, of the program that a container's first argument names: an executable file that begins
 * as an ELF file or a script; undefined if there is none, as in the image of a Spin app. The root file system must be
 * mounted. Looked up as the container's kernel would (its PATH, its symlinks, its volumes), and without ever opening
 * anything outside of the root file system and the volumes.
 */
export function findProgram({ spec, rootfs }: Bundle): string | undefined {
  const [name = ''] = spec.args;
  if (name === '' || name.includes('\0')) return undefined;
  const searchPath = spec.env.findLast(([variable]) => variable === 'PATH')?.[1] ?? '';
  const candidates = name.includes('/')
    ? [posix.resolve('/', spec.cwd, name)]
    : searchPath.split(':').flatMap((folder) => (folder.startsWith('/') ? [posix.join(folder, name)] : []));
  const tree = { rootfs, volumes: spec.mounts.filter(isVolume) };
  return candidates.find((path) => isProgram(tree, path));
}

/** What a container sees as its files: its root file system and what is mounted on it from the node. */
type FileTree = { readonly rootfs: string; readonly volumes: readonly SpecMount[] };

function isVolume({ source, type, options }: SpecMount): boolean {
  return source.startsWith('/') && (type === 'bind' || options.includes('bind') || options.includes('rbind'));
}

function isProgram(tree: FileTree, path: string): boolean {
  if (Buffer.byteLength(path) > maxPathBytes) return false;
  const file = openFile(tree, path);
  if (file === undefined) return false;
  try {
    const status = fstatSync(file);
    if (!status.isFile() || (status.mode & 0o111) === 0) return false;
    const head = Buffer.alloc(4);
    const length = readSync(file, head, 0, head.length, 0);
    const text = head.toString('latin1', 0, length);
    return magics.some((magic) => text.startsWith(magic));
  } catch {
    return false;
  } finally {
    closeSync(file);
  }
}

/** Opens what a path of the container leads to, with every symlink taken to be the container's. */
function openFile(tree: FileTree, path: string): number | undefined {
  const ahead = path.split('/');
  const behind: string[] = [];
  for (let links = 0; links <= maxLinks; ) {
    const name = ahead.shift();
    if (name === undefined) return open(tree, behind);
    if (name === '' || name === '.') continue;
    if (name === '..') {
      behind.pop();
      continue;
    }
    const target = linkTarget(tree, behind, name);
    if (target === undefined) {
      behind.push(name);
      continue;
    }
    links++;
    if (target.startsWith('/')) behind.length = 0;
    ahead.unshift(...target.split('/'));
  }
  return undefined;
}

/** What a symlink says; undefined for anything else and where nothing is. `folder` has no symlinks in it. */
function linkTarget(tree: FileTree, folder: readonly string[], name: string): string | undefined {
  if (
    tree.volumes.some(
      ({ destination }) => posix.resolve('/', destination) === `/${[...folder, name].join('/')}`,
    )
  )
    return undefined;
  const fd = open(tree, folder);
  if (fd === undefined) return undefined;
  try {
    const path = `/proc/self/fd/${fd}/${name}`;
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** Opens a place without symlinks: beneath the innermost volume that covers it, else beneath the root file system. */
function open({ rootfs, volumes }: FileTree, place: readonly string[]): number | undefined {
  const path = `/${place.join('/')}`;
  let root = rootfs;
  let mountPoint = '/';
  for (const { destination, source } of volumes) {
    const point = posix.resolve('/', destination);
    if (point.length < mountPoint.length || (path !== point && !path.startsWith(`${point}/`))) continue;
    [root, mountPoint] = [source, point];
  }
  // O_NONBLOCK: a FIFO in an image must not hold us up.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  let rootFd: number;
  try {
    rootFd = openSync(root, flags);
  } catch {
    return undefined;
  }
  const below = path.slice(mountPoint.length).replace(/^\//, '');
  if (below === '') return rootFd;
  try {
    const fd = openBeneath(rootFd, below, { flags: flags | constants.O_NOFOLLOW });
    return typeof fd === 'number' ? fd : undefined;
  } finally {
    closeSync(rootFd);
  }
}
