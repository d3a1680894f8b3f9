import { closeSync, constants, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { openBeneath } from '../linux.ts';
import type { Bundle } from './bundle.ts';

/** Files of a container that our side of the border reads. */
const wanted = {
  resolvConf: '/etc/resolv.conf',
  hosts: '/etc/hosts',
  runtimeConfig: '/runtime-config.toml',
  caBundle: '/etc/ssl/certs/ca-certificates.crt',
} as const;

/** Where those files are on the node, absolute. */
export type ContainerFiles = { readonly [name in keyof typeof wanted]?: string };

/** Most bytes of a file that is taken from an image. */
const maxFileBytes = 4 * 1024 * 1024;

/**
 * Finds the files: the source of a mount at that place, else what the image's root file system has there. The latter
 * is opened beneath the root and copied to `directory`, since a path of an image is never opened on the node as it is.
 */
export function findContainerFiles(bundle: Bundle, directory: string): ContainerFiles {
  const found: { -readonly [name in keyof ContainerFiles]: string } = {};
  for (const [name, path] of Object.entries(wanted) as [keyof typeof wanted, string][]) {
    const mount = bundle.spec.mounts.findLast(({ destination }) => destination === path);
    if (mount?.source.startsWith('/')) found[name] = mount.source;
    else if (copyFromRootfs(bundle.rootfs, path, join(directory, name))) found[name] = join(directory, name);
  }
  return found;
}

/** Copies a regular file out of the root file system; false if it has none there. */
function copyFromRootfs(rootfs: string, path: string, target: string): boolean {
  let root: number;
  try {
    root = openSync(rootfs, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch {
    return false;
  }
  try {
    // O_NONBLOCK: a FIFO in an image must not hold us up.
    const file = openBeneath(root, path.slice(1), { flags: constants.O_RDONLY | constants.O_NONBLOCK });
    if (typeof file !== 'number') return false;
    try {
      return copyFile(file, path, target);
    } finally {
      closeSync(file);
    }
  } finally {
    closeSync(root);
  }
}

function copyFile(file: number, path: string, target: string): boolean {
  const status = fstatSync(file);
  if (!status.isFile()) return false;
  if (status.size > maxFileBytes) {
    const size = `has ${status.size} bytes; at most ${maxFileBytes} are read`;
    throw new ShimError('invalid-image', `"${path}" in the image ${size}`);
  }
  writeFileSync(target, readFileSync(file), { mode: 0o600 });
  return true;
}
