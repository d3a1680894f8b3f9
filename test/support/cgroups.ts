import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { mountTable } from './mounts.ts';
import { waitFor } from './wait.ts';

/** Mount points of all cgroup hierarchies: one per controller on version 1, one on version 2. */
export function cgroupRoots(): string[] {
  return mountTable()
    .filter((entry) => entry.type === 'cgroup' || entry.type === 'cgroup2')
    .map((entry) => entry.mountPoint);
}

/** The file by which a process joins the cgroup that another one's memory is counted in. */
export function memoryProcessFile(pid: number): string {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
  const pathIn = (name: string): string | undefined =>
    lines.map((line) => line.split(':')).find(([, controllers]) => controllers === name)?.[2];
  const path = pathIn('memory') ?? pathIn('') ?? '';
  const mount = mountTable().find(({ type, superOptions }) =>
    pathIn('memory') === undefined
      ? type === 'cgroup2'
      : type === 'cgroup' && superOptions.includes('memory'),
  );
  return join(mount?.mountPoint ?? '', path, 'cgroup.procs');
}

/** All folders of one cgroup in all hierarchies, children before parents. */
export function cgroupFolders(cgroup: string): string[] {
  return cgroupRoots().flatMap((root) => {
    const top = join(root, cgroup);
    if (!existsSync(top)) return [];
    const below = readdirSync(top, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
    return [...below.sort((a, b) => b.split('/').length - a.split('/').length), top];
  });
}

/** Removes a cgroup with its children from every hierarchy; its processes must be gone or going. */
export async function removeCgroup(cgroup: string): Promise<void> {
  await waitFor(`cgroup "${cgroup}" to become empty`, async () => {
    for (const folder of cgroupFolders(cgroup)) await rmdir(folder);
    return true;
  });
}
