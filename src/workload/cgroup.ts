import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, readFile, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShimError } from '../error.ts';
import { type CgroupHierarchies, parseCgroupMounts } from './cgroup-hierarchy.ts';
import { type CgroupWrite, limitWrites } from './cgroup-limits.ts';
import type { CgroupPath } from './cgroup-path.ts';
import { type CgroupStats, readStatsV1, readStatsV2 } from './cgroup-stats.ts';
import { MemoryWatch } from './memory-watch.ts';
import type { SpecResources } from './spec.ts';
import { type SystemdUnit, startScope, stopScope, systemdRuns, updateScope } from './systemd-scope.ts';

/** How long the processes of a cgroup get to go after SIGKILL, milliseconds. */
const emptyTimeoutMs = 5_000;

/** Pause between two looks at whether a cgroup is empty, milliseconds. */
const emptyPollMs = 5;

/** Controllers that a version 2 leaf needs from its parents. */
const neededControllers = ['cpuset', 'cpu', 'io', 'memory', 'pids'];

/** The node's hierarchies. Throws `unsupported` if no cgroup file system is mounted. */
export function findHierarchies(): CgroupHierarchies {
  const found = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
  if (found === undefined)
    throw new ShimError('unsupported', 'no cgroup file system is mounted on this node');
  return found;
}

/** One container's cgroup, in every hierarchy of the node. */
export class Cgroup {
  readonly #hierarchies: CgroupHierarchies;
  readonly #path: string;
  readonly #unit: SystemdUnit | undefined;
  /** What `stats` read last. */
  #lastStats: CgroupStats | undefined;
  /** Kills for want of memory in it that were counted when it was looked at last. */
  #ownKills = 0;
  /** Those that its parent had counted then or was about to count, its other children's among them. */
  #parentKills = 0;

  constructor(hierarchies: CgroupHierarchies, path: CgroupPath) {
    this.#hierarchies = hierarchies;
    this.#path = path.path;
    this.#unit = systemdRuns() ? path.unit : undefined;
  }

  /** Its directories, absolute: one on version 2, one per hierarchy on version 1. */
  get directories(): readonly string[] {
    const hierarchies = this.#hierarchies;
    if (hierarchies.version === 2) return [join(hierarchies.mountPoint, this.#path)];
    return hierarchies.mounts.map((mount) => join(mount.mountPoint, this.#path));
  }

  /** The files that take a pid. */
  get processFiles(): readonly string[] {
    return this.directories.map((directory) => join(directory, 'cgroup.procs'));
  }

  /** Makes it, with its parents; processes may be moved in. */
  create(): void {
    // The kernel answers each of these from memory: together they take a third of what going to another thread for each takes.
    for (const directory of this.directories) mkdirSync(directory, { recursive: true });
    if (this.#hierarchies.version === 2) this.#enableControllers(this.#hierarchies.mountPoint);
    else this.#inheritCpuset(this.#hierarchies.mounts);
    this.#parentKills = this.#killsOfParent();
  }

  /** Gives it its first limits. Throws `failed-precondition` for one that cannot be set. */
  limit(resources: SpecResources): void {
    for (const write of this.#limitWrites(resources)) {
      try {
        writeFileSync(write.path, write.value);
      } catch (cause) {
        this.#refused(write, cause);
      }
    }
  }

  /** Where the limits of some resources are written. Throws `failed-precondition` for one that this node cannot set. */
  #limitWrites(resources: SpecResources): readonly (CgroupWrite & { readonly path: string })[] {
    return limitWrites(resources, this.#hierarchies.version).flatMap((write) => {
      const path = this.#file(write.controller, write.file);
      if (path !== undefined) return [{ ...write, path }];
      if (!write.optional)
        this.#refused(write, new Error(`the node has no cgroup controller "${write.controller}"`));
      return [];
    });
  }

  /** Throws `failed-precondition` naming the limit that the kernel refused, unless it is one that may be missing. */
  #refused(write: CgroupWrite, cause: unknown): void {
    if (write.optional) return;
    const what = `cgroup limit "${write.file}" of "${this.#path}" cannot be set to "${write.value}"`;
    throw new ShimError('failed-precondition', `${what}: ${String(cause)}`, { cause });
  }

  /** Tells systemd of it, where it is a unit of a running systemd, once the processes are in. Rejects with its refusal. */
  async register(pids: readonly number[], resources: SpecResources): Promise<void> {
    if (this.#unit === undefined) return;
    await startScope(this.#unit, pids, resources, this.#hierarchies.version);
  }

  /** Writes limits and tells systemd of them; what is not given stays. Throws `failed-precondition` naming the limit that the kernel refused. */
  async update(resources: SpecResources): Promise<void> {
    // Lowering a limit can make the kernel look for memory to free.
    for (const write of this.#limitWrites(resources))
      await writeFile(write.path, write.value).catch((cause: unknown) => this.#refused(write, cause));
    // The kernel has them already; systemd's memory of them matters only when it rewrites its units.
    if (this.#unit !== undefined)
      await updateScope(this.#unit, resources, this.#hierarchies.version).catch(() => {});
  }

  /** Moves processes in. */
  async place(pids: readonly number[]): Promise<void> {
    // One hierarchy after the other: the first move after a while makes the kernel wait for some 20 ms, those right after it do
    // not, and whoever waits there holds one of the few threads that this process has for files.
    for (const file of this.processFiles) {
      try {
        const procs = await open(file, 'w');
        try {
          for (const pid of pids) await procs.write(String(pid));
        } finally {
          await procs.close();
        }
      } catch (cause) {
        const what = `process ${pids.join(' and ')} cannot be moved to "${file}"`;
        throw new ShimError('internal', `${what}: ${String(cause)}`, { cause });
      }
    }
  }

  /** Moves a process in that is there already; false when that is refused. */
  async stay(pid: number): Promise<boolean> {
    const [file = ''] = this.processFiles;
    return writeFile(file, String(pid)).then(
      () => true,
      () => false,
    );
  }

  /** Pids in it, in the hierarchy that has them first. */
  async pids(): Promise<readonly number[]> {
    const pids = new Set<number>();
    for (const file of this.processFiles) {
      const text = await readFile(file, 'utf8').catch(() => '');
      for (const line of text.split('\n')) if (line !== '') pids.add(Number(line));
    }
    return [...pids];
  }

  /**
   * What it used until now; zeros for what the kernel does not count. Of one that is gone (systemd removes a scope with its
   * last process) what was read last, and the kills for want of memory that its parent has counted since.
   */
  async stats(): Promise<CgroupStats> {
    const oomKills = this.memoryKills();
    const stats = this.#readStats();
    if (this.#exists()) {
      this.#lastStats = stats;
      return stats;
    }
    const last = this.#lastStats ?? stats;
    return { ...last, memory: { ...last.memory, oomKills } };
  }

  /** Processes of it that the kernel has killed for want of memory until now; 0 where that is not counted. */
  memoryKills(): number {
    const { version } = this.#hierarchies;
    const file = version === 1 ? 'memory.oom_control' : 'memory.events';
    // Before its own: a kill is counted from below upwards.
    const parentKills = this.#killsOfParent();
    const text = readOrEmpty(this.#file('memory', file) ?? '');
    const read = (_: string, name: string): string => (name === file ? text : '');
    if (!this.#exists()) return this.#ownKills + Math.max(0, parentKills - this.#parentKills);
    const ownKills = (version === 1 ? readStatsV1(read) : readStatsV2(read)).memory.oomKills;
    // The kernel tells of a kill before it has counted it above: what is new here is going to be counted there.
    this.#parentKills = Math.max(parentKills, this.#parentKills + ownKills - this.#ownKills);
    this.#ownKills = ownKills;
    return ownKills;
  }

  /** False as soon as a part of it is gone. */
  #exists(): boolean {
    return this.directories.every((directory) => existsSync(directory));
  }

  /** Calls `look` when `memoryKills` may have risen. Throws where the kernel does not tell of that. */
  watchMemory(look: () => void): MemoryWatch {
    const folder = this.#file('memory', '');
    if (folder === undefined)
      throw new ShimError('unsupported', 'the node has no cgroup controller "memory"');
    return new MemoryWatch(this.#hierarchies.version, folder, look);
  }

  /** Version 2 counts for a cgroup what happens in those below it, too. */
  #killsOfParent(): number {
    const { version } = this.#hierarchies;
    if (version === 1) return 0;
    const events = join(this.#hierarchies.mountPoint, dirname(this.#path), 'memory.events');
    return readStatsV2((_, file) => (file === 'memory.events' ? readOrEmpty(events) : '')).memory.oomKills;
  }

  #readStats(): CgroupStats {
    const files = new Map<string, string>();
    const read = (controller: string, file: string): string => {
      const path = this.#file(controller, file);
      if (path === undefined) return '';
      const known = files.get(path);
      if (known !== undefined) return known;
      // A dozen kernel files answered from memory: synchronous reads cost less than a trip to the thread pool each.
      const text = readOrEmpty(path);
      files.set(path, text);
      return text;
    };
    return this.#hierarchies.version === 1 ? readStatsV1(read) : readStatsV2(read);
  }

  /** Stops or continues everything in it. Throws `unsupported` without a freezer. */
  async freeze(frozen: boolean): Promise<void> {
    const [file, value] =
      this.#hierarchies.version === 2
        ? ['cgroup.freeze', frozen ? '1' : '0']
        : ['freezer.state', frozen ? 'FROZEN' : 'THAWED'];
    const path = this.#file('freezer', file);
    if (path === undefined) {
      throw new ShimError('unsupported', 'the node has no cgroup freezer: tasks cannot be paused here');
    }
    await writeFile(path, value);
  }

  /** Sends a signal to every process in it. */
  async signal(signal: number): Promise<void> {
    for (const pid of await this.pids()) sendSignal(pid, signal);
  }

  /** Kills what is in it and removes it. Throws `internal` if it does not become empty within five seconds. */
  async remove(): Promise<void> {
    const deadline = performance.now() + emptyTimeoutMs;
    const left = new Set(this.directories);
    for (;;) {
      for (const directory of left) {
        const error = await rmdir(directory).then(
          () => undefined,
          (thrown: NodeJS.ErrnoException) => thrown.code,
        );
        if (error === undefined || error === 'ENOENT') left.delete(directory);
      }
      if (left.size === 0) break;
      if (performance.now() >= deadline)
        throw new ShimError('internal', `cgroup "${[...left].join('", "')}" did not become empty`);
      await this.freeze(false).catch(() => {});
      await this.signal(9);
      await sleep(emptyPollMs);
    }
    // systemd hears from the kernel that the cgroup is empty, unless the cgroup goes first: then the scope would stay for ever.
    if (this.#unit !== undefined) await stopScope(this.#unit).catch(() => {});
  }

  /** Where a controller's file is; undefined if no hierarchy has that controller. */
  #file(controller: string, file: string): string | undefined {
    const hierarchies = this.#hierarchies;
    if (hierarchies.version === 2) return join(hierarchies.mountPoint, this.#path, file);
    const mount = hierarchies.mounts.find((candidate) => candidate.controllers.includes(controller));
    return mount === undefined ? undefined : join(mount.mountPoint, this.#path, file);
  }

  /** Version 2: a leaf has the controllers that every folder above it hands down. */
  #enableControllers(mountPoint: string): void {
    const parents: string[] = [];
    for (let path = dirname(this.#path); ; path = dirname(path)) {
      parents.unshift(join(mountPoint, path));
      if (path === '/') break;
    }
    for (const parent of parents) {
      const handedDown = new Set(readOrEmpty(join(parent, 'cgroup.subtree_control')).trim().split(' '));
      for (const controller of neededControllers) {
        if (handedDown.has(controller)) continue;
        // One at a time: a controller the parent lacks would fail the others with it.
        try {
          writeFileSync(join(parent, 'cgroup.subtree_control'), `+${controller}`);
        } catch {
          // A limit that needs it is refused by name.
        }
      }
    }
  }

  /** Version 1: a cpuset takes no process until its CPUs and memory nodes are set, and they are not inherited. */
  #inheritCpuset(mounts: readonly { mountPoint: string; controllers: readonly string[] }[]): void {
    const mount = mounts.find((candidate) => candidate.controllers.includes('cpuset'));
    if (mount === undefined) return;
    let parent = mount.mountPoint;
    for (const name of this.#path.split('/').slice(1)) {
      const child = join(parent, name);
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        // One that has no such file sets nothing.
        if (!existsSync(join(child, file)) || readFileSync(join(child, file), 'utf8').trim() !== '') continue;
        writeFileSync(join(child, file), readFileSync(join(parent, file), 'utf8'));
      }
      parent = child;
    }
  }
}

/** kill(2) for a process that may have ended meanwhile. */
export function sendSignal(pid: number, signal: number): void {
  try {
    process.kill(pid, signal);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw ShimError.from(thrown);
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
