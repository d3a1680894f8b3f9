import { existsSync, readFileSync } from 'node:fs';

/** USER_HZ, the unit of /proc; 100 on every architecture we run on. */
const ticksPerSecond = 100;

/** CPU seconds of all threads of a process that are or were, in user mode and in the kernel (proc(5), fields 14 and 15). */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** What a process has in memory, MiB. */
export type MemoryUse = {
  /** All of it, pages of others included. */
  readonly rssMiB: number;
  /** Proportional set size: shared pages are split among those who share them. */
  readonly pssMiB: number;
  /** Pages that no file stands behind: heaps of JavaScript and of C, linear memories, stacks. */
  readonly anonymousMiB: number;
};

export function memoryUse(pid: number): MemoryUse {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024;
  return { rssMiB: field('Rss'), pssMiB: field('Pss'), anonymousMiB: field('Anonymous') };
}

export function pssMiB(pid: number): number {
  return memoryUse(pid).pssMiB;
}

/** Pids of a process's children; none of one that has ended. */
export function childrenOf(pid: number): readonly number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  const text = existsSync(file) ? readFileSync(file, 'latin1').trim() : '';
  return text === '' ? [] : text.split(' ').map(Number);
}
