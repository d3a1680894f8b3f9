import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { waitFor } from './wait.ts';

/** Milliseconds a process gets between SIGTERM and SIGKILL. */
const graceMs = 10_000;
/** USER_HZ, the unit of /proc; 100 on every architecture we run on. */
const ticksPerSecond = 100;

/** What proves that a process belongs to one private containerd. */
export type Ownership = {
  /** `NAME=value` that only this containerd's descendants have in their environment. */
  readonly environmentEntry: string;
  /** cgroup path that only this containerd's pods have, for example `/spinshim-test-1`. */
  readonly cgroupParent: string;
};

/** Ends a child of ours: SIGTERM, then SIGKILL after ten seconds. Returns when it is gone. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const hard = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await gone;
  clearTimeout(hard);
}

/** One process, told apart from a later one with the same pid by its start. */
export type ProcessIdentity = {
  readonly pid: number;
  /** Clock ticks since boot (proc(5), stat field 22). */
  readonly startTicks: number;
};

/**
 * The processes that `ownership` proves, those in `roots`, and all their descendants; never this process. Zombies are
 * left out: there is nothing to end about them.
 */
export function ownedProcesses(ownership: Ownership, roots: readonly number[] = []): ProcessIdentity[] {
  return withDescendants((pid) => roots.includes(pid) || isOwned(pid, ownership));
}

/** Live processes with these pids and all their descendants. */
export function processTrees(roots: readonly number[]): ProcessIdentity[] {
  return withDescendants((pid) => roots.includes(pid));
}

function withDescendants(isRoot: (pid: number) => boolean): ProcessIdentity[] {
  const all = new Map<number, { readonly parent: number; readonly startTicks: number }>();
  const owned = new Set<number>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const { state, parent, startTicks } = processStat(pid);
      if (state === 'Z') continue;
      all.set(pid, { parent, startTicks });
      if (isRoot(pid)) owned.add(pid);
    } catch {
      // The process ended while we looked at it.
    }
  }
  for (let grown = true; grown; ) {
    grown = false;
    for (const [pid, { parent }] of all) {
      if (!owned.has(parent) || owned.has(pid)) continue;
      owned.add(pid);
      grown = true;
    }
  }
  return [...owned].map((pid) => ({ pid, startTicks: all.get(pid)?.startTicks ?? 0 }));
}

/** Whether a live process is proven to belong to the containerd of `ownership`. */
function isOwned(pid: number, ownership: Ownership): boolean {
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  if (environment.includes(ownership.environmentEntry)) return true;
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n');
  return groups.some((line) => {
    const path = line.slice(line.indexOf(':', line.indexOf(':') + 1) + 1);
    return path === ownership.cgroupParent || path.startsWith(`${ownership.cgroupParent}/`);
  });
}

/**
 * Whether the process that wrote its pid into `file` still lives. One that started after the file was written has got
 * the number by reuse and does not count.
 */
export function isWriterAlive(file: string): boolean {
  try {
    const pid = Number(readFileSync(file, 'utf8').trim());
    if (!Number.isInteger(pid) || pid <= 1) return false;
    const { state, startTicks } = processStat(pid);
    const bootSeconds = Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1]);
    const startedMs = (bootSeconds + startTicks / ticksPerSecond) * 1000;
    // btime is whole seconds.
    return state !== 'Z' && startedMs <= statSync(file).mtimeMs + 1000;
  } catch {
    return false;
  }
}

/**
 * Kills what `ownership` proves and what is still alive of `others` until nothing is left. Returns the pids it had to
 * kill; fails after five seconds.
 */
export async function killOwned(ownership: Ownership, others: readonly ProcessIdentity[]): Promise<number[]> {
  const killed = new Set<number>();
  await waitFor('the processes of a private containerd to end', () => {
    const left = [...ownedProcesses(ownership), ...others.filter(isAlive)];
    for (const { pid } of left) {
      killed.add(pid);
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself between the two calls.
      }
    }
    return left.length === 0;
  });
  return [...killed];
}

/** Whether this very process still runs, not a later one with its pid. */
export function isAlive({ pid, startTicks }: ProcessIdentity): boolean {
  try {
    const now = processStat(pid);
    return now.state !== 'Z' && now.startTicks === startTicks;
  } catch {
    return false;
  }
}

/** From /proc/PID/stat; the command name before the fields may itself hold blanks and brackets (proc(5)). */
function processStat(pid: number): {
  readonly state: string;
  readonly parent: number;
  readonly startTicks: number;
} {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', parent: Number(fields[1]), startTicks: Number(fields[19]) };
}
