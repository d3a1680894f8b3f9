import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

/** The lists of a journal, each a file of its name in the bundle. */
const lists = ['pids', 'mounts', 'cgroups'] as const;
type List = (typeof lists)[number];

/**
 * What a container holds on the node, written into its bundle before it is taken: if this process dies, the launcher's
 * `delete` ends, unmounts and removes exactly that. Every file is replaced as a whole. Bundles lie in memory: to write takes less
 * than to have another thread write.
 */
export class Journal {
  readonly #bundle: string;
  readonly #lines: Record<List, string[]> = { pids: [], mounts: [], cgroups: [] };

  constructor(bundle: string) {
    this.#bundle = bundle;
  }

  /** Adds live processes with their start times, which tell them from later ones of the same pids. */
  addProcesses(pids: readonly number[]): void {
    const lines = pids.flatMap((pid) => {
      const started = processStartTime(pid);
      return started === undefined ? [] : [`${pid} ${started}`];
    });
    if (lines.length > 0) this.#add('pids', lines);
  }

  addMount(mountPoint: string): void {
    this.#add('mounts', [mountPoint]);
  }

  /** Directories of a cgroup, parents first. */
  addCgroups(directories: readonly string[]): void {
    this.#add('cgroups', directories);
  }

  /** Mount points, last mounted first. */
  get mountsToUndo(): readonly string[] {
    return this.#lines.mounts.toReversed();
  }

  /** Removes the files: nothing is held any more. */
  async remove(): Promise<void> {
    for (const list of lists) await rm(join(this.#bundle, list), { force: true });
  }

  #add(list: List, lines: readonly string[]): void {
    this.#lines[list].push(...lines);
    const path = join(this.#bundle, list);
    // Not in this process's own words: a line break in a path would become a line of its own.
    const sound = this.#lines[list].filter((line) => !line.includes('\n'));
    writeFileSync(`${path}.new`, sound.map((line) => `${line}\n`).join(''), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

/** When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat); undefined if it is gone. */
export function processStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name in field 2 may hold blanks and parentheses.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
