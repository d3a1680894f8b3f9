import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Journal } from './journal.ts';

/**
 * The working directory of a Linux shim, in the bundle of the container it was booted for. It is not the bundle itself,
 * since the shim writes the file `address` where it works and removes the socket that this file names when it ends: in
 * the bundle that file names ours. Of the bundle it is given what it looks for there, and what a runtime that it runs may
 * look for: the pid is written there later.
 */
const workDirectory = 'runc';
const linkedFiles = ['config.json', 'init.pid', 'log'];

/**
 * What the launcher's `delete` needs to clean up a Linux container after us: the path of the shim binary, whose own
 * `delete` it runs, and that shim's address, whose socket it removes.
 */
const shimFile = 'runc-shim';
const addressFile = 'runc-address';

/** The files that we keep in the bundle of a Linux container. */
export class LinuxBundle {
  readonly #path: string;
  #journal: Journal;

  constructor(path: string) {
    this.#path = path;
    this.#journal = new Journal(path);
  }

  /** To be called before the Linux shim is started; gives the directory to start it in. */
  async prepare(binary: string): Promise<string> {
    await this.#write(shimFile, `${binary}\n`);
    const directory = join(this.#path, workDirectory);
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { mode: 0o700 });
    for (const name of linkedFiles) await symlink(join(this.#path, name), join(directory, name));
    return directory;
  }

  async noteAddress(address: string): Promise<void> {
    await this.#write(addressFile, `${address}\n`);
  }

  async noteShimProcess(pid: number): Promise<void> {
    this.#journal.addProcesses([pid]);
  }

  /** The container's own process goes first: its pid is what the launcher reports. */
  async noteProcesses(containerPid: number, shimPid: number): Promise<void> {
    this.#journal = new Journal(this.#path);
    this.#journal.addProcesses([containerPid, shimPid]);
  }

  /** Nothing is left to clean up. */
  async forget(): Promise<void> {
    for (const name of [shimFile, addressFile]) await rm(join(this.#path, name), { force: true });
    await rm(join(this.#path, workDirectory), { recursive: true, force: true });
    await this.#journal.remove();
  }

  async #write(name: string, content: string): Promise<void> {
    const path = join(this.#path, name);
    await writeFile(`${path}.new`, content, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }
}
