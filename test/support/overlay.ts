import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Whether the kernel mounts an overlay whose layers lie in `folder`, found out by doing it. */
export async function overlayWorks(folder: string): Promise<boolean> {
  const probe = join(folder, 'overlay-probe');
  const [lower, upper, work, merged] = ['l', 'u', 'w', 'm'].map((name) => join(probe, name)) as [
    string,
    string,
    string,
    string,
  ];
  for (const path of [lower, upper, work, merged]) await mkdir(path, { recursive: true });
  try {
    await run('mount', [
      '-t',
      'overlay',
      '-o',
      `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
      'overlay',
      merged,
    ]);
  } catch {
    return false;
  }
  await run('umount', [merged]);
  await rm(probe, { recursive: true });
  return true;
}
