import { closeSync, constants, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { ShimError } from '../error.ts';
import { openBeneath } from '../linux.ts';
import { createMemoryFile, sealMemoryFile } from '../linux-memory.ts';
import type { EngineClaim, VolumeGrant } from './messages.ts';

/** Fields of a claim that name a file which every worker reads when it loads the app. */
const readByWorkers = ['runtimeConfig', 'resolvConf', 'hosts', 'caBundle'] as const;

/** What a container without such a file of its own goes by. */
const ofTheNode: ReadonlyMap<string, string> = new Map([
  ['resolvConf', '/etc/resolv.conf'],
  ['hosts', '/etc/hosts'],
]);

/** Most bytes of such a file. */
const maxFileBytes = 4 * 1024 * 1024;

/**
 * Opens what the app's workers will read or hand to guests, and gives the claim with the paths of the descriptors in place
 * of those on the node. Later the engine is somebody who can no longer open them; descriptors stay, for workers that
 * take the place of dead ones as well.
 */
export function holdFiles(claim: EngineClaim): EngineClaim {
  const files = Object.fromEntries(
    readByWorkers.map((name) => {
      const path = claim[name] ?? ofTheNode.get(name);
      const content = path === undefined ? undefined : readRegular(path);
      return [name, content === undefined ? undefined : pathOf(memoryFileOf(name, content))];
    }),
  );
  const { app } = claim.prepared;
  const components = app.components.map((component) => ({
    ...component,
    files: [
      ...component.files.map((mount) => ({ ...mount, source: pathOf(openDirectory(mount.source)) })),
      ...(claim.grants ?? []).flatMap((grant) =>
        grant.component === component.id
          ? [{ source: pathOf(openGrant(grant)), destination: grant.destination, writable: grant.writable }]
          : [],
      ),
    ],
  }));
  return { ...claim, ...files, prepared: { ...claim.prepared, app: { ...app, components } } };
}

/** A file in memory that whoever has its descriptor may open again, and nobody can change. */
function memoryFileOf(name: string, content: string): number {
  const fd = createMemoryFile(name);
  writeFileSync(fd, content);
  sealMemoryFile(fd);
  return fd;
}

/** Holds a file of the node as a claim does, and lets it go: for warm code when a claim comes. */
export function rehearseHolding(): void {
  closeSync(memoryFileOf('rehearsal', readRegular('/etc/hosts') ?? ''));
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** What a file holds; undefined where there is none, or a folder (what kubelet leaves for an optional secret that is missing). */
function readRegular(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || stat.isDirectory()) return undefined;
  if (stat.isFile() && stat.size <= maxFileBytes) return readFileSync(path, 'utf8');
  throw new ShimError(
    'invalid-argument',
    `"${path}" is not a regular file of at most ${maxFileBytes} bytes, which the container needs it to be`,
  );
}

/** O_PATH: a descriptor to start from, nothing that reads. */
const pathOnly = 0o10000000;

function openDirectory(path: string): number {
  try {
    return openSync(path, pathOnly | constants.O_DIRECTORY);
  } catch (cause) {
    throw new ShimError(
      'failed-precondition',
      `"${path}" of the app or its volumes cannot be opened as a folder: ${String(cause)}`,
      {
        cause,
      },
    );
  }
}

/** A granted folder. Symbolic links below the volume are followed as long as they stay in it: kubelet's `..data` does. */
function openGrant({ source, below, destination }: VolumeGrant): number {
  const volume = openDirectory(source);
  if (below === '') return volume;
  try {
    const found = openBeneath(volume, below, { flags: pathOnly | constants.O_DIRECTORY });
    if (typeof found === 'number') return found;
    throw new ShimError(
      'failed-precondition',
      `"${below}" of the volume that is granted at "${destination}" cannot be opened as a folder: ${found.errno}`,
    );
  } finally {
    closeSync(volume);
  }
}
