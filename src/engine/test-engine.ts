import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type EngineClaim, EngineProcess } from './engine-process.ts';
import { prepare } from './prepare.ts';
import type { PreparedApp } from './prepared-app.ts';

/** Folder of the sample apps. */
export const fixtures = fileURLToPath(new URL('../../fixtures', import.meta.url));

/** What is undone when a test or a suite ends; `TestContext` has the shape. */
export type Cleanup = { after(undo: () => unknown): void };

/** What a file of tests undoes at its end, the last thing first. */
export class SuiteCleanup implements Cleanup {
  readonly #undo: (() => unknown)[] = [];

  after(undo: () => unknown): void {
    this.#undo.unshift(undo);
  }

  async run(): Promise<void> {
    for (const undo of this.#undo) await undo();
  }
}

/** A directory that lives as long as the test. */
export async function temporaryFolder(t: Cleanup): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'engine-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Prepares an app made of a manifest and files, each a path to copy from or its content. */
export async function prepareApp(
  folder: string,
  manifest: string,
  files: Readonly<Record<string, string | Uint8Array>> = {},
  { alwaysJco = false }: { readonly alwaysJco?: boolean } = {},
): Promise<PreparedApp> {
  const app = await mkdtemp(join(folder, 'app-'));
  await writeFile(join(app, 'spin.toml'), manifest);
  for (const [name, content] of Object.entries(files)) {
    const path = join(app, name);
    await mkdir(join(path, '..'), { recursive: true });
    if (typeof content === 'string') await copyFile(content, path);
    else await writeFile(path, content);
  }
  return prepare({
    source: { kind: 'folder', manifest: join(app, 'spin.toml'), mode: 'copy' },
    storeDir: join(folder, 'store'),
    workDir: join(app, 'work'),
    alwaysJco,
  });
}

/** An engine that serves on a free loopback port, its output in files. */
export class TestEngine {
  readonly process: EngineProcess;
  readonly base: string;
  readonly port: number;
  readonly #folder: string;

  private constructor(process: EngineProcess, address: string, folder: string) {
    this.process = process;
    this.base = `http://${address}`;
    this.port = Number(address.slice(address.lastIndexOf(':') + 1));
    this.#folder = folder;
  }

  /** Spawns, claims and starts; what `changes` names replaces the defaults of the claim. */
  static async start(
    t: Cleanup,
    prepared: PreparedApp,
    changes: Partial<EngineClaim> = {},
  ): Promise<TestEngine> {
    const folder = await temporaryFolder(t);
    const engine = await EngineProcess.spawn();
    t.after(async () => {
      engine.signal('SIGKILL');
      await engine.exited;
    });
    await engine.claim(claimOf(prepared, folder, changes));
    const { addresses } = await engine.start();
    return new TestEngine(engine, addresses[0] ?? '', folder);
  }

  /** Status and text of an answer. */
  async text(path: string, init?: RequestInit): Promise<[status: number, text: string]> {
    const response = await fetch(`${this.base}${path}`, init);
    return [response.status, await response.text()];
  }

  /** Names of the threads of its process. */
  async threads(): Promise<readonly string[]> {
    const tasks = `/proc/${this.process.pid}/task`;
    const names = (await readdir(tasks)).map((id) => readFile(`${tasks}/${id}/comm`, 'utf8').catch(() => ''));
    return (await Promise.all(names)).map((name) => name.trim());
  }

  /** Resolves once so many of its threads run guests, or may. */
  async untilWorkers(count: number): Promise<void> {
    while ((await this.threads()).filter((name) => name === 'guests').length !== count)
      await new Promise((resolve) => setTimeout(resolve, 20));
  }

  stdout(): Promise<string> {
    return readFile(join(this.#folder, 'stdout'), 'utf8');
  }

  stderr(): Promise<string> {
    return readFile(join(this.#folder, 'stderr'), 'utf8');
  }

  /** Resolves with what the engine wrote to a stream once the condition holds. */
  async until(stream: 'stdout' | 'stderr', condition: (text: string) => boolean): Promise<string> {
    for (;;) {
      const text = await this[stream]();
      if (condition(text)) return text;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

export function claimOf(
  prepared: PreparedApp,
  folder: string,
  changes: Partial<EngineClaim> = {},
): EngineClaim {
  return {
    id: 'sample',
    prepared,
    network: { kind: 'host' },
    environment: [],
    args: [],
    stdout: { kind: 'file', path: join(folder, 'stdout') },
    stderr: { kind: 'file', path: join(folder, 'stderr') },
    stateDir: folder,
    listen: '127.0.0.1:0',
    ...changes,
  };
}
