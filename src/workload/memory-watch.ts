import { closeSync, type FSWatcher, openSync, watch, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findInstallation } from '../engine/installation.ts';
import { type EventDescriptor, EventWaiter } from '../linux-events.ts';

/** Version 1 tells of a want of memory before it kills; when the count is looked at, milliseconds after that. */
const looksAfterMs = [0, 10, 50, 250, 1_000];

/** Version 2 tells of every time the limit is met; the count is looked at once in so many milliseconds at most. */
const quietMs = 50;

/** The one of this process; made by the first container of a node with version 1. */
let waiter: EventWaiter | undefined;

/** Has the kernel tell of a want of memory in a cgroup. Nothing is polled while nothing happens. */
export class MemoryWatch {
  readonly #look: () => void;
  readonly #timers = new Set<NodeJS.Timeout>();
  #event: EventDescriptor | undefined;
  readonly #watchers: FSWatcher[] = [];
  #isQuiet = false;

  /**
   * `folder`: the cgroup's, of the memory controller. `look` is called when its count of kills may have risen. Throws what the
   * kernel says where it does not tell.
   */
  constructor(version: 1 | 2, folder: string, look: () => void) {
    this.#look = look;
    if (version === 1) this.#watchEvents(folder);
    else {
      this.#watchFile(folder);
      this.#watchParent(dirname(folder));
    }
  }

  close(): void {
    this.#event?.close();
    for (const watcher of this.#watchers) watcher.close();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #watchEvents(folder: string): void {
    waiter ??= new EventWaiter(findInstallation().threadCalls);
    const event = waiter.add(() => {
      for (const milliseconds of looksAfterMs) this.#after(milliseconds, this.#look);
    });
    this.#event = event;
    const control = openSync(join(folder, 'memory.oom_control'), 'r');
    try {
      writeFileSync(join(folder, 'cgroup.event_control'), `${event.fd} ${control}`);
    } catch (error) {
      event.close();
      throw error;
    } finally {
      closeSync(control);
    }
  }

  #watchFile(folder: string): void {
    const watcher = watch(join(folder, 'memory.events'), { persistent: false }, () => {
      if (this.#isQuiet) return;
      this.#isQuiet = true;
      this.#look();
      this.#after(quietMs, () => {
        this.#isQuiet = false;
        this.#look();
      });
    });
    // systemd removes the folder with its last process.
    watcher.on('error', () => {});
    this.#watchers.push(watcher);
  }

  /** Whose kill its count is can be told only by a look while both are there; the root of the hierarchy counts none. */
  #watchParent(folder: string): void {
    try {
      this.#watchFile(folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  #after(milliseconds: number, step: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      step();
    }, milliseconds);
    this.#timers.add(timer.unref());
  }
}
