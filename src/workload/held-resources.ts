import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { mount } from '../linux.ts';
import { type MappedMount, mountMapped } from '../linux-mounts.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Bundle } from './bundle.ts';
import { Cgroup, findHierarchies } from './cgroup.ts';
import { cgroupPathOf } from './cgroup-path.ts';
import type { CgroupStats } from './cgroup-stats.ts';
import type { ExposedFile } from './file-grants.ts';
import { Journal } from './journal.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { mountRootfs, unmountAll } from './mounts.ts';
import type { SpecResources } from './spec.ts';
import type { RootMount } from './workload.ts';

/** How old a reading of a cgroup may be that is given out again, milliseconds: containerd 2.3 asks once a second. */
const statsMaxAgeMs = 500;

/** What a container takes on the node, taken and freed in one place and journaled all the while. */
export class HeldResources {
  readonly #log: Logger;
  readonly #id: string;
  readonly #bundle: Bundle;
  readonly #journal: Journal;
  #cgroup: Cgroup | undefined;
  #memoryWatch: MemoryWatch | undefined;
  /** Kills for want of memory that have been told of. */
  #toldKills = 0;
  #reading: { readonly at: number; readonly stats: Promise<CgroupStats> } | undefined;

  constructor(id: string, bundle: Bundle, log: Logger) {
    this.#log = log;
    this.#id = id;
    this.#bundle = bundle;
    this.#journal = new Journal(bundle.path);
  }

  /** The container's cgroup. Throws `failed-precondition` before `makeCgroup`. */
  get cgroup(): Cgroup {
    if (this.#cgroup === undefined) {
      throw new ShimError('failed-precondition', `task "${this.#id}" has no cgroup yet`);
    }
    return this.#cgroup;
  }

  /** Makes the cgroup, without limits. */
  makeCgroup(): void {
    const cgroup = new Cgroup(findHierarchies(), cgroupPathOf(this.#bundle.spec.cgroupsPath, this.#id));
    this.#journal.addCgroups(cgroup.directories);
    this.#cgroup = cgroup;
    cgroup.create();
  }

  /** Gives the cgroup the limits of the spec. Throws `failed-precondition` for one that cannot be set. */
  limitCgroup(): void {
    this.cgroup.limit(this.#bundle.spec.resources);
  }

  async mountRootfs(mounts: readonly RootMount[]): Promise<void> {
    await mountRootfs(mounts, this.#bundle.rootfs, this.#journal);
  }

  /**
   * Shows a directory of the node at a place that the container's user can reach, below the bundle, and gives that place. The
   * folders above the directory may be closed to that user.
   */
  async expose(source: string, name: string): Promise<string> {
    const point = join(await this.#openFolder(), name);
    await mkdir(point, { recursive: true, mode: 0o711 });
    this.#journal.addMount(point);
    mount('', source, point, ['rbind']);
    return point;
  }

  /** The same of a directory or file, with the ids of a user namespace. Throws as `mountMapped` does. */
  async exposeMapped(source: string, name: string, mapping: MappedMount): Promise<string> {
    const point = join(await this.#openFolder(), name);
    if ((await stat(source)).isDirectory()) await mkdir(point, { recursive: true, mode: 0o711 });
    else await writeFile(point, '');
    this.#journal.addMount(point);
    mountMapped(source, point, mapping);
    return point;
  }

  /** The folder of what is exposed, which any user can reach. */
  async #openFolder(): Promise<string> {
    const { path } = this.#bundle;
    // containerd opens the bundle to a user namespace's root in the same way; the environment stays hidden.
    await chmod(join(path, 'config.json'), 0o600);
    await chmod(path, 0o711);
    const folder = join(path, 'exposed');
    await mkdir(folder, { recursive: true, mode: 0o711 });
    return folder;
  }

  /**
   * Shows open files of the node in a folder below the bundle, and gives that folder. Each file is mounted there, read-only unless it
   * is `writable`; the folder itself takes no change from anybody.
   */
  async exposeFiles(name: string, files: readonly ExposedFile[]): Promise<string> {
    const folder = join(this.#bundle.path, 'exposed', name);
    await mkdir(folder, { recursive: true, mode: 0o711 });
    await chmod(folder, 0o755);
    for (const file of files) await writeFile(join(folder, file.name), '');
    this.#journal.addMount(folder);
    mount('', folder, folder, ['bind', 'ro']);
    for (const file of files) {
      const point = join(folder, file.name);
      this.#journal.addMount(point);
      mount('', `/proc/self/fd/${file.fd}`, point, file.writable ? ['bind'] : ['bind', 'ro']);
    }
    return folder;
  }

  /** Takes processes into the journal, so that they end with the container. */
  listProcesses(pids: readonly number[]): void {
    this.#journal.addProcesses(pids);
  }

  /** Takes processes that are in the journal into the cgroup. */
  async placeProcesses(pids: readonly number[]): Promise<void> {
    await this.cgroup.place(pids);
    await this.cgroup.register(pids, this.#bundle.spec.resources).catch((error: unknown) => {
      this.#log.warn(
        { instance: this.#id, err: error },
        'systemd does not take the cgroup over; it stays a plain one',
      );
    });
  }

  /** Every live process of the container, `first` always among them. */
  async pids(first: number): Promise<readonly number[]> {
    const others = (await this.#cgroup?.pids()) ?? [];
    return [first, ...others.filter((pid) => pid !== first)];
  }

  /** What the container used; at most half a second old. */
  stats(): Promise<CgroupStats> {
    const reading = this.#reading;
    if (reading === undefined || performance.now() - reading.at > statsMaxAgeMs) return this.#read();
    return reading.stats;
  }

  #read(): Promise<CgroupStats> {
    const stats = this.cgroup.stats();
    this.#reading = { at: performance.now(), stats };
    return stats;
  }

  /** Whether the kernel has killed a process of the container for want of memory. */
  async outOfMemory(): Promise<boolean> {
    return (await this.#memoryKills()) > 0;
  }

  /** Calls `tell` each time the kernel has killed for want of memory, until everything is freed. */
  watchMemory(tell: () => void): void {
    const look = (): void => {
      const kills = this.cgroup.memoryKills();
      if (kills <= this.#toldKills) return;
      this.#toldKills = kills;
      tell();
    };
    try {
      this.#memoryWatch = this.cgroup.watchMemory(look);
    } catch (error) {
      this.#log.warn({ instance: this.#id, err: error }, 'want of memory is told of at the end only');
    }
  }

  /** Whether the kernel has killed for want of memory since `watchMemory` told of it last. */
  async outOfMemoryUntold(): Promise<boolean> {
    this.#memoryWatch?.close();
    const kills = await this.#memoryKills();
    const isUntold = kills > this.#toldKills;
    this.#toldKills = Math.max(kills, this.#toldKills);
    return isUntold;
  }

  async #memoryKills(): Promise<number> {
    if (this.#cgroup === undefined) return 0;
    // Read anew, and kept: containerd 2.3 asks for the statistics after the end to learn the same.
    return (await this.#read()).memory.oomKills;
  }

  async update(resources: SpecResources): Promise<void> {
    await this.cgroup.update(resources);
  }

  /** Kills what is left and frees everything; goes on after a failure and throws the first one at the end. */
  async free(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (step: () => void | Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    };
    this.#memoryWatch?.close();
    await attempt(async () => this.#cgroup?.remove());
    await attempt(() => unmountAll(this.#journal));
    if (failures.length === 0) await attempt(() => this.#journal.remove());
    if (failures.length > 0) throw ShimError.from(failures[0]);
  }
}
