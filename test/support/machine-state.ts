import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupFolders, cgroupRoots } from './cgroups.ts';
import { mountTable } from './mounts.ts';

/** What must be the same on the machine after a private containerd was cleaned up as before it started. */
export function machineState() {
  return {
    mounts: mountTable()
      .map((entry) => entry.mountPoint)
      .sort(),
    namespaces: execFileSync('ip', ['netns'], { encoding: 'utf8' }),
    forwarding: readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'),
    links: readdirSync('/sys/class/net').filter((name) => name.startsWith('veth')),
    cgroups: cgroupRoots()
      .flatMap((root) => readdirSync(root).map((name) => join(root, name)))
      .filter((path) => path.includes('spinshim-test')),
    processes: readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => commandOf(pid))
      .filter((command) => command.includes('/tmp/spinshim-test-') || command.startsWith('/pause'))
      .sort(),
    folders: readdirSync('/tmp')
      .filter((name) => name.startsWith('spinshim-'))
      .sort(),
    cniResults: existsSync('/var/lib/cni/results')
      ? readdirSync('/var/lib/cni/results').filter((name) => name.startsWith('spinshim'))
      : [],
    shimSockets: existsSync('/run/containerd/s') ? readdirSync('/run/containerd/s').sort() : [],
  };
}

/** Entries of the machine's own tables, by what they are. */
export type MachineTables = Readonly<Record<string, readonly string[]>>;

/** The machine's own tables, as they must be again when a node with all its pods is gone. */
export function machineTables(): MachineTables {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const spaces = pids.map((pid) => namespacesOf(pid));
  const own = namespacesOf('self');
  return {
    mounts: mountTable()
      .map(({ mountPoint, type }) => `${type} ${mountPoint}`)
      .sort(),
    namespaces: [...new Set(spaces.flat())].sort(),
    'processes of ours or in other namespaces': pids
      .filter((_, index) => spaces[index]?.some((space) => !own.includes(space)) ?? false)
      .concat(pids.filter((pid) => environmentOf(pid).includes('SPINSHIM_TEST_INSTANCE=')))
      .map((pid) => `${pid} ${commandOf(pid)}`)
      .sort(),
    cgroups: cgroupFolders('/').sort(),
    sockets: pathSockets(),
    'network links': readdirSync('/sys/class/net').sort(),
    'entries of /run/containerd': existsSync('/run/containerd')
      ? readdirSync('/run/containerd', { recursive: true, encoding: 'utf8' }).sort()
      : [],
  };
}

/** `net:[4026531840]` and its like; empty for a process that is gone or may not be looked at. */
function namespacesOf(pid: string): string[] {
  try {
    const folder = `/proc/${pid}/ns`;
    return readdirSync(folder).map((name) => readlinkSync(join(folder, name)));
  } catch {
    return [];
  }
}

function environmentOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return '';
  }
}

/** Unix sockets that are bound to a path, of this network namespace. */
function pathSockets(): string[] {
  const lines = readFileSync('/proc/net/unix', 'utf8').trim().split('\n').slice(1);
  return [...new Set(lines.flatMap((line) => line.split(/\s+/).slice(7)))].sort();
}

/** Command line of a process with blanks between the words; empty when it is gone. */
export function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}
