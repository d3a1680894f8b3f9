import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import type { Access, DescriptorFlags } from './filesystem-access.ts';
import { attempt, fail } from './filesystem-error.ts';
import { typeOf } from './filesystem-metadata.ts';
import { openAsPath, openBelow, placeOf } from './filesystem-path.ts';

/** wasi:filesystem/types `open-flags`; what is left out is not set. */
export type OpenFlags = {
  readonly create?: boolean;
  readonly directory?: boolean;
  readonly exclusive?: boolean;
  readonly truncate?: boolean;
};

/** An `open-at` with its flags. */
export type OpenRequest = {
  readonly path: string;
  readonly followFinal: boolean;
  readonly open: OpenFlags;
  readonly flags: DescriptorFlags;
};

/** Permission bits of files that guests create, before the umask. */
const createdFileMode = 0o666;

/** Whether the request could change something: such a request needs a preopen that may be changed. */
export function wouldChange({ open, flags }: OpenRequest): boolean {
  return (
    open.create === true || open.truncate === true || flags.write === true || flags.mutateDirectory === true
  );
}

/**
 * Opens a regular file, or a directory by O_PATH. What is there is looked at through an O_PATH descriptor before it is
 * opened for real through that same descriptor, so a device or FIFO is refused (`not-permitted`) without being
 * touched. Throws the WIT code. The caller has checked the right.
 */
export function openRequested(
  directory: number,
  request: OpenRequest,
): { readonly fd: number; readonly kind: Access['kind'] } {
  const { open } = request;
  if (open.directory && (open.create || open.exclusive || open.truncate)) fail('invalid');
  const path = lookUp(directory, request);
  if (path === undefined) return { fd: create(directory, request), kind: 'file' };
  const kind = attempt(() => typeOf(fstatSync(path, { bigint: true })));
  if (kind === 'directory' && mayOpenDirectory(request)) return { fd: path, kind };
  try {
    if (open.create && open.exclusive) fail('exist');
    if (kind === 'directory') fail('is-directory');
    if (kind === 'symbolic-link') fail('loop');
    if (kind !== 'regular-file') fail('not-permitted');
    const flags = accessFlags(request.flags) | (open.truncate ? constants.O_TRUNC : 0);
    return { fd: attempt(() => openSync(placeOf(path), flags)), kind: 'file' };
  } finally {
    closeSync(path);
  }
}

function mayOpenDirectory({ open, flags }: OpenRequest): boolean {
  return !open.create && !open.truncate && !flags.write;
}

/** An O_PATH descriptor, or undefined when nothing is there and the request would create it. */
function lookUp(directory: number, { path, followFinal, open }: OpenRequest): number | undefined {
  const flags =
    openAsPath |
    (followFinal ? 0 : constants.O_NOFOLLOW) |
    (open.directory === true ? constants.O_DIRECTORY : 0);
  try {
    return openBelow(directory, path, flags);
  } catch (error) {
    if (open.create && error === 'no-entry') return undefined;
    throw error;
  }
}

function create(directory: number, { path, followFinal, open, flags }: OpenRequest): number {
  const fd = openBelow(
    directory,
    path,
    accessFlags(flags) |
      constants.O_CREAT |
      // Should a FIFO appear here after the look-up, opening it must not block.
      constants.O_NONBLOCK |
      constants.O_NOCTTY |
      (open.exclusive ? constants.O_EXCL : 0) |
      (followFinal ? 0 : constants.O_NOFOLLOW),
    createdFileMode,
  );
  if (typeOf(fstatSync(fd, { bigint: true })) === 'regular-file') return fd;
  closeSync(fd);
  return fail('not-permitted');
}

function accessFlags(flags: DescriptorFlags): number {
  const access = !flags.write ? constants.O_RDONLY : flags.read ? constants.O_RDWR : constants.O_WRONLY;
  const sync =
    flags.fileIntegritySync || flags.requestedWriteSync
      ? constants.O_SYNC
      : flags.dataIntegritySync
        ? constants.O_DSYNC
        : 0;
  return access | sync;
}
