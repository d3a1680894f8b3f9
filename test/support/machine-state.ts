import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupRoots } from './cgroups.ts';
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

/** Command line of a process with blanks between the words; empty when it is gone. */
export function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}
