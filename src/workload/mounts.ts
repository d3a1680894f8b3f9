import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import { mount, unmount } from '../linux.ts';
import type { Journal } from './journal.ts';
import type { RootMount } from './workload.ts';

/** Most bytes of options that mount(2) takes: one page. */
const maxOptionBytes = 4095;

/** Mounts a container's root file system on `rootfs`, first to last, noting each in the journal before it is made. */
export async function mountRootfs(
  mounts: readonly RootMount[],
  rootfs: string,
  journal: Journal,
): Promise<void> {
  await mkdir(rootfs, { recursive: true });
  for (const { type, source, target, options } of mounts) {
    if (target.split('/').includes('..')) {
      throw new ShimError(
        'invalid-argument',
        `root mount target "${target}" leads out of the root file system`,
      );
    }
    const point = join(rootfs, target);
    journal.addMount(point);
    mountCompact(type, source, point, options.filter(isOfKernel));
  }
}

/**
 * For a pod in a user namespace containerd asks for layers whose files have its ids. They are mounted as they are: the app is read
 * from them by this process, and by its engine as anybody reads.
 */
function isOfKernel(option: string): boolean {
  return !/^[ug]idmap=/.test(option);
}

/** Unmounts what the journal has, last first. */
export function unmountAll(journal: Journal): void {
  for (const point of journal.mountsToUndo) unmount(point);
}

/**
 * An image of many layers has more option bytes than mount(2) takes. Its lower directories are then named relative to
 * their common parent, which is made the working directory for the time of the call (which blocks, so nobody sees it).
 */
function mountCompact(type: string, source: string, target: string, options: readonly string[]): void {
  const compact = options.join(',').length > maxOptionBytes ? compactLowerDirs(options) : undefined;
  if (compact === undefined) {
    mount(type, source, target, options);
    return;
  }
  const before = process.cwd();
  process.chdir(compact.directory);
  try {
    mount(type, source, target, compact.options);
  } finally {
    process.chdir(before);
  }
}

/** The options with `lowerdir` relative to `directory`; undefined if that would gain nothing. */
export function compactLowerDirs(
  options: readonly string[],
): { readonly directory: string; readonly options: readonly string[] } | undefined {
  const lower = options.find((option) => option.startsWith('lowerdir='));
  if (lower === undefined) return undefined;
  const paths = lower.slice('lowerdir='.length).split(':');
  const [first = ''] = paths;
  let directory = dirname(first);
  while (!paths.every((path) => path.startsWith(`${directory}/`))) {
    if (directory === '/' || directory === '.') return undefined;
    directory = dirname(directory);
  }
  const relative = paths.map((path) => path.slice(directory.length + 1));
  return {
    directory,
    options: options.map((option) => (option === lower ? `lowerdir=${relative.join(':')}` : option)),
  };
}
