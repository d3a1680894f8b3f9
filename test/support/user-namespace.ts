import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import type { IdRange } from './cri.ts';

/** A user namespace, and a network namespace of its own, as long as a process sleeps in them. */
export type UserNamespace = { readonly pid: number; readonly end: () => void };

/** Makes a namespace whose root the node calls `hostId`. */
export async function makeUserNamespace({ hostId, length }: IdRange): Promise<UserNamespace> {
  const sleeper = spawn('unshare', ['--user', '--net', 'sh', '-c', 'echo; exec sleep infinity'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { pid = 0 } = sleeper;
  await once(sleeper.stdout, 'data');
  for (const map of ['uid_map', 'gid_map']) await writeFile(`/proc/${pid}/${map}`, `0 ${hostId} ${length}\n`);
  return { pid, end: () => void sleeper.kill('SIGKILL') };
}
