import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupFolders } from './cgroups.ts';
import type { PrivateContainerd } from './containerd.ts';
import { commandOf } from './machine-state.ts';
import { mountsUnder } from './mounts.ts';
import { linksInto } from './subnet.ts';
import { waitFor } from './wait.ts';

/** What a running private containerd and its shim hold on the machine, in a form that two moments compare equal in. */
export type Footprint = {
  /** Command lines of everything that runs, host and warm engines among them. */
  readonly processes: readonly string[];
  readonly zombies: number;
  readonly mounts: readonly string[];
  readonly cgroups: readonly string[];
  readonly fifos: readonly string[];
  readonly bundles: readonly string[];
  readonly networkLinks: readonly string[];
  /** Open descriptors of the shim hosts by what they are: `socket`, `pipe`, a path. */
  readonly hostDescriptors: Readonly<Record<string, number>>;
};

/** Looks at everything that pods could leave behind while containerd goes on running. */
export function footprint(containerd: PrivateContainerd): Footprint {
  const { folder, state, cgroupParent } = containerd;
  const pids = containerd.processes();
  const tasks = join(state, 'io.containerd.runtime.v2.task');
  return {
    processes: pids.map((pid) => commandOf(String(pid))).sort(),
    zombies: zombiesOf(pids),
    mounts: mountsUnder(folder).sort(),
    cgroups: [
      ...new Set(cgroupFolders(cgroupParent).map((path) => path.split(cgroupParent)[1] ?? path)),
    ].sort(),
    fifos: filesBelow(folder).filter((path) => isFifo(path)),
    bundles: entries(tasks).flatMap((namespace) => entries(join(tasks, namespace))),
    networkLinks: linksInto(containerd.subnet),
    hostDescriptors: descriptorsOf(containerd.hostPids()),
  };
}

function zombiesOf(parents: readonly number[]): number {
  let count = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [state, parent] = statusOf(name);
      if (state === 'Z' && parents.includes(Number(parent))) count++;
    } catch {
      // It ended while we looked at it.
    }
  }
  return count;
}

/** What /proc/PID/stat tells behind the name of a process, from its state on. Throws when that has gone. */
function statusOf(pid: string): readonly string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function descriptorsOf(pids: readonly number[]): Record<string, number> {
  const counts = new Map<string, number>();
  for (const pid of pids) {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      try {
        const kind = readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/:\[\d+\]$/, '');
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
      } catch {
        // It was closed while we looked at it.
      }
    }
  }
  return Object.fromEntries([...counts].sort());
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
}

function isFifo(path: string): boolean {
  try {
    return statSync(path).isFIFO();
  } catch {
    return false;
  }
}

/** How long nothing may have run before all is quiet, milliseconds: an engine that boots or rehearses computes. */
const idleMs = 300;

/**
 * The footprint once all is quiet: no app is being prepared, there is one engine for each container and one in the pool, and
 * none of them computes.
 */
export async function quietFootprint(containerd: PrivateContainerd, containers: number): Promise<Footprint> {
  const count = ({ processes }: Footprint, part: string): number =>
    processes.filter((command) => runsPart(command, part)).length;
  let last: Footprint | undefined;
  let computed = '';
  let since = performance.now();
  const quiet = (): Footprint | undefined => {
    last = footprint(containerd);
    const now = cpuTimeOf(containerd.processes());
    if (now !== computed) since = performance.now();
    computed = now;
    // A process without a command line is about to become another program or to end.
    const settled = !last.processes.includes('') && count(last, 'preparer') === 0;
    const isIdle = performance.now() - since >= idleMs;
    return settled && isIdle && count(last, 'engine') === containers + 1 ? last : undefined;
  };
  return waitFor('no preparer and one warm engine', quiet, {
    explain: () => last?.processes.join('\n') ?? '',
  });
}

/** Whether a command line is that of a part of ours, `engine` or `preparer`, bundled or not. */
function runsPart(command: string, part: string): boolean {
  return new RegExp(`/${part}\\.[cm]?[jt]s`).test(command);
}

/** CPU time of the engines among some processes, as a text that changes with it. */
function cpuTimeOf(pids: readonly number[]): string {
  const engines = pids.filter((pid) => runsPart(commandOf(String(pid)), 'engine'));
  return engines
    .map((pid) => {
      try {
        const [user, system] = statusOf(String(pid)).slice(11, 13);
        return `${pid}:${user}:${system}`;
      } catch {
        // It ended while we looked at it.
        return '';
      }
    })
    .join();
}

/**
 * What a private containerd that was cleaned up has left on the machine; empty when all is well. Looks only for what is
 * provably its own, so that other instances may run at the same time.
 */
export function leftovers(containerd: PrivateContainerd): string[] {
  const { folder, cgroupParent, subnet } = containerd;
  const name = cgroupParent.slice(1);
  const processes = entries('/proc').filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(folder));
  return [
    ...processes.map((pid) => `process ${pid}: ${commandOf(pid)}`),
    ...mountsUnder(folder).map((point) => `mount ${point}`),
    ...cgroupFolders(cgroupParent).map((path) => `cgroup ${path}`),
    ...linksInto(subnet).map((link) => `network link ${link}`),
    ...entries('/tmp').flatMap((entry) => (folder === `/tmp/${entry}` ? [`folder ${folder}`] : [])),
    ...entries('/var/lib/cni/results').flatMap((entry) =>
      entry.startsWith(name) ? [`CNI result ${entry}`] : [],
    ),
  ];
}
