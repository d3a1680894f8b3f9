import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { posix } from 'node:path';
import type { App, FileMount } from '../app/types.ts';
import type { VolumeGrant } from '../engine/engine-process.ts';
import { ShimError } from '../error.ts';
import { openBeneath } from '../linux.ts';

/** A file of the node by an open descriptor, and how it is to be seen. */
export type ExposedFile = { readonly fd: number; readonly name: string; readonly writable: boolean };

/** Shows files in a folder that has nothing else and takes nothing else, and gives that folder. */
export type ExposeFiles = (name: string, files: readonly ExposedFile[]) => Promise<string>;

/** Open files of one component that are seen in the same folder. */
type Seen = { readonly component: string; readonly destination: string; readonly files: ExposedFile[] };

/** O_PATH: a descriptor to mount from, nothing that reads. */
const pathOnly = 0o10000000;

/**
 * Replaces grants of single files by grants of folders, since guests start from folders only: the files of a component that are
 * seen in the same folder are shown in one made for them. Links below a volume are followed as long as they stay in it, now:
 * what a link leads to later is not seen. Grants of folders stay as they are. Throws `failed-precondition` for what is
 * neither, `invalid-argument` where a folder of the component is already at the place.
 */
export async function exposeFileGrants(
  app: App,
  grants: readonly VolumeGrant[],
  expose: ExposeFiles,
): Promise<readonly VolumeGrant[]> {
  const folders: VolumeGrant[] = [];
  const seen = new Map<string, Seen>();
  const open: number[] = [];
  try {
    for (const grant of grants) {
      const fd = openGranted(grant);
      open.push(fd);
      const status = fstatSync(fd);
      if (status.isDirectory()) folders.push(grant);
      else if (status.isFile()) addFile(seen, grant, fd);
      else
        throw new ShimError(
          'failed-precondition',
          `what is granted at "${grant.destination}" is neither a folder nor a regular file`,
        );
    }
    for (const place of seen.values()) assertFree(app, folders, place);
    const shown: VolumeGrant[] = [];
    for (const [index, { component, destination, files }] of [...seen.values()].entries()) {
      const source = await expose(`files-${index}`, files);
      const writable = files.some((file) => file.writable);
      shown.push({ component, source, below: '', destination, writable });
    }
    return [...folders, ...shown];
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

function addFile(
  seen: Map<string, Seen>,
  { component, destination, writable }: VolumeGrant,
  fd: number,
): void {
  const place = posix.dirname(destination);
  const name = posix.basename(destination);
  const isPlain = name !== '' && !/\p{Cc}/u.test(name);
  if (!isPlain)
    throw new ShimError(
      'invalid-argument',
      `a file is granted at "${destination}", which is no name for one: give it another path in the guest`,
    );
  const key = `${component}\0${place}`;
  const known = seen.get(key) ?? { component, destination: place, files: [] };
  if (known.files.some((file) => file.name === name))
    throw new ShimError(
      'invalid-argument',
      `two files are granted at "${destination}" of component "${component}": give each a path of its own`,
    );
  known.files.push({ fd, name, writable });
  seen.set(key, known);
}

/** The folder made for files would hide one that the component has at the same place. */
function assertFree(
  app: App,
  folders: readonly VolumeGrant[],
  { component, destination, files }: Seen,
): void {
  const own = app.components.find(({ id }) => id === component)?.files ?? [];
  const granted = folders.filter((grant) => grant.component === component);
  if (![...own, ...granted].some((folder) => hasFolder(folder, destination))) return;
  const name = files[0]?.name ?? '';
  const path = posix.join(destination, name);
  throw new ShimError(
    'invalid-argument',
    `the file "${path}" is seen in a folder of its own, and component "${component}" has one at "${destination}" already: give it another path in the guest, such as "${posix.join(destination, 'mounted', name)}"`,
  );
}

/** Whether a folder that the guest has somewhere is, or has one, at `path`. */
function hasFolder(
  { source, below = '', destination }: FileMount & { readonly below?: string },
  path: string,
): boolean {
  const rest = posix.relative(destination, path);
  if (rest === '') return true;
  if (rest === '..' || rest.startsWith('../')) return false;
  const folder = openSync(source, pathOnly);
  try {
    const flags = pathOnly | constants.O_DIRECTORY;
    const found = openBeneath(folder, posix.join(below, rest), { flags });
    if (typeof found === 'number') closeSync(found);
    return typeof found === 'number';
  } finally {
    closeSync(folder);
  }
}

function openGranted({ source, below, destination }: VolumeGrant): number {
  let volume: number;
  try {
    volume = openSync(source, pathOnly);
  } catch (cause) {
    throw new ShimError('failed-precondition', `the volume "${source}" cannot be opened: ${String(cause)}`, {
      cause,
    });
  }
  if (below === '') return volume;
  try {
    const found = openBeneath(volume, below, { flags: pathOnly });
    if (typeof found === 'number') return found;
    throw new ShimError(
      'failed-precondition',
      `"${below}" of the volume that is granted at "${destination}" cannot be opened: ${found.errno}`,
    );
  } finally {
    closeSync(volume);
  }
}
