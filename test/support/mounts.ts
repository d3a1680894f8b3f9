import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** One line of /proc/self/mountinfo, as far as the tests need it. */
export type MountEntry = {
  readonly mountPoint: string;
  readonly type: string;
  /** Options of the file system itself, for cgroup v1 its controllers. */
  readonly superOptions: readonly string[];
};

/** All mounts of this process's mount namespace, in kernel order. */
export function mountTable(text = readFileSync('/proc/self/mountinfo', 'utf8')): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const mountPoint = before?.split(' ')[4];
    const [type, , superOptions] = after?.split(' ') ?? [];
    if (mountPoint === undefined || type === undefined) continue;
    entries.push({
      mountPoint: unescapeOctal(mountPoint),
      type,
      superOptions: superOptions?.split(',') ?? [],
    });
  }
  return entries;
}

/** Mount points at or below a folder, deepest first. */
export function mountsUnder(folder: string): string[] {
  return mountTable()
    .map((entry) => entry.mountPoint)
    .filter((point) => point === folder || point.startsWith(`${folder}/`))
    .reverse()
    .sort((a, b) => b.split('/').length - a.split('/').length);
}

/** Unmounts everything at or below a folder, lazily where it is busy. Returns what was unmounted. */
export async function unmountUnder(folder: string): Promise<string[]> {
  const points = mountsUnder(folder);
  for (const point of points) {
    await run('umount', ['-c', point]).catch(() => run('umount', ['-c', '-l', point]));
  }
  return points;
}

/** mountinfo writes blank, tab, newline and backslash as three octal digits. */
function unescapeOctal(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
