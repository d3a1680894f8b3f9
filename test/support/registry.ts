import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LogTail } from './log-tail.ts';
import { endProcess } from './processes.ts';
import { waitFor } from './wait.ts';

/** A real docker-registry on a free loopback port, with its own storage folder, without authentication or TLS. */
export class PrivateRegistry {
  /** `127.0.0.1:PORT`, the first part of an image reference. */
  readonly host: string;
  /** Storage root: `docker/registry/v2/{blobs,repositories}`. Tests may tamper with what lies there. */
  readonly storage: string;
  readonly #folder: string;
  readonly #process: ChildProcess;

  private constructor(host: string, folder: string, storage: string, child: ChildProcess) {
    this.host = host;
    this.storage = storage;
    this.#folder = folder;
    this.#process = child;
  }

  get url(): string {
    return `http://${this.host}`;
  }

  /** Starts the registry and waits until it listens. `binary` is looked up on the PATH. */
  static async start({
    binary = 'docker-registry',
  }: {
    readonly binary?: string;
  } = {}): Promise<PrivateRegistry> {
    const folder = await mkdtemp(join(tmpdir(), 'spinshim-registry-'));
    const storage = join(folder, 'data');
    const config = join(folder, 'config.yml');
    await writeFile(config, configuration(storage));
    const child = spawn(binary, ['serve', config], {
      cwd: folder,
      detached: true,
      env: { PATH: process.env.PATH ?? '/usr/bin' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = new LogTail();
    child.stdout.on('data', (chunk: Buffer) => log.add(chunk));
    child.stderr.on('data', (chunk: Buffer) => log.add(chunk));
    let failure: Error | undefined;
    child.on('error', (error) => {
      failure = error;
    });
    try {
      const port = await waitFor(
        'the registry to listen',
        () => {
          if (failure !== undefined || child.exitCode !== null) return 'ended';
          return /listening on 127\.0\.0\.1:(\d+)/.exec(log.text)?.[1];
        },
        { explain: () => log.text },
      );
      if (port === 'ended') throw new Error(`the registry ended at once: ${failure ?? log.text}`);
      return new PrivateRegistry(`127.0.0.1:${port}`, folder, storage, child);
    } catch (error) {
      await endProcess(child);
      await rm(folder, { recursive: true });
      throw error;
    }
  }

  /** Ends the process and removes the storage. */
  async stop(): Promise<void> {
    await endProcess(this.#process);
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function configuration(storage: string): string {
  return [
    'version: 0.1',
    'log: { level: info, formatter: text, accesslog: { disabled: true } }',
    'storage:',
    `  filesystem: { rootdirectory: ${JSON.stringify(storage)} }`,
    '  delete: { enabled: true }',
    '  maintenance: { uploadpurging: { enabled: false } }',
    'http: { addr: "127.0.0.1:0" }',
    '',
  ].join('\n');
}
