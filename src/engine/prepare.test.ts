import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { App } from '../app/types.ts';
import { lockFile } from '../linux.ts';
import { findInstallation } from './installation.ts';
import { type PrepareJob, prepare } from './prepare.ts';
import { maxComponentBytes, prepareApp as prepareInProcess } from './prepare-app.ts';
import type { PreparedApp } from './prepared-app.ts';
import { fixtures, prepareApp, temporaryFolder } from './test-engine.ts';

const header = `spin_manifest_version = 2
[application]
name = "sample"
[[trigger.http]]
route = "/..."
component = "c"
`;
const manifest = `${header}[component.c]\nsource = "c.wasm"\n`;
const hello = join(fixtures, 'hello', 'hello.wasm');

function folderJob(folder: string): PrepareJob {
  return {
    source: { kind: 'folder', manifest: join(folder, 'app', 'spin.toml'), mode: 'copy' },
    storeDir: join(folder, 'store'),
    workDir: join(folder, 'work'),
  };
}

test('a component is transpiled once; later and simultaneous preparers get the same entry', async (t) => {
  const folder = await temporaryFolder(t);
  const [one, two] = await Promise.all([
    prepareApp(folder, manifest, { 'c.wasm': hello }),
    prepareApp(folder, manifest, { 'c.wasm': hello }),
  ]);
  assert.equal(one.components[0]?.entryPath, two.components[0]?.entryPath);
  const entries = await readdir(join(folder, 'store', 'components'));
  assert.equal(entries.length, 1, entries.join());
  const later = await prepareApp(folder, manifest, { 'c.wasm': hello });
  assert.deepEqual(later.components, one.components);
});

test('of preparers that want one component at once, those that come late wait for the first and take its work', async (t) => {
  const folder = await temporaryFolder(t);
  const again = (): Promise<PreparedApp> => prepareApp(folder, manifest, { 'c.wasm': hello });
  const first = await again();
  const entry = first.components[0]?.entryPath ?? '';
  const kept = join(folder, 'kept');
  await rename(entry, kept);

  // The test stands for the first one: it has the lock, and makes the entry while the others wait.
  const locks = join(folder, 'store', 'locks');
  const names = await readdir(locks);
  const held = await Promise.all(names.map((name) => open(join(locks, name), 'a')));
  try {
    for (const { fd } of held) lockFile(fd);
    const others = Promise.all([again(), again(), again()]);
    const { ino } = await stat(join(locks, names[0] ?? ''));
    await Promise.race([others, until(() => waitersFor(ino) === 3)]);
    await rename(kept, entry);
    const made = await stat(entry);
    for (const file of held) await file.close();
    for (const { components } of await others) assert.deepEqual(components, first.components);
    assert.equal((await stat(entry)).ino, made.ino, 'nobody made it again');
  } finally {
    for (const file of held) await file.close();
  }
});

/** How many wait for a lock of that file. */
function waitersFor(ino: number): number {
  const lines = readFileSync('/proc/locks', 'latin1').split('\n');
  return lines.filter((line) => line.includes('-> FLOCK') && line.includes(`:${ino} `)).length;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('a preparer tells what it found damaged and made again', async (t) => {
  const folder = await temporaryFolder(t);
  const { components } = await prepareApp(folder, manifest, { 'c.wasm': hello });
  const entry = components[0]?.entryPath ?? '';
  await truncate(entry, 100);
  const warnings: string[] = [];
  await writeApp(folder);
  const prepared = await prepare(folderJob(folder), { warn: (line) => warnings.push(line) });
  assert.deepEqual(prepared.components, components);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /seal .* prepared again/);
});

test('modules are lifted: one with component types, a command, WAT', async (t) => {
  const folder = await temporaryFolder(t);
  const core = join(fixtures, 'rust-http', 'rust-http.core.wasm');
  await prepareApp(folder, manifest, { 'c.wasm': core });
  await prepareApp(folder, manifest, { 'c.wasm': join(fixtures, 'c-tool', 'c-tool.wasm') });
  await prepareApp(folder, manifest, { 'c.wasm': Buffer.from('(component)') });
});

function leb(length: number): number {
  assert.ok(length < 128);
  return length;
}

/** A module with nothing but exports of these names. */
function moduleExporting(...names: readonly string[]): Uint8Array {
  const type = [1, 4, 1, 0x60, 0, 0];
  const functions = [3, 2, 1, 0];
  const entries = names.flatMap((name) => [leb(name.length), ...Buffer.from(name), 0, 0]);
  const exports = [7, leb(entries.length + 1), names.length, ...entries];
  const code = [10, 4, 1, 2, 0, 0x0b];
  return Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...type, ...functions, ...exports, ...code]);
}

const refused: readonly (readonly [
  name: string,
  source: () => Promise<Uint8Array>,
  code: string,
  reason: RegExp,
])[] = [
  ['an empty file', async () => new Uint8Array(0), 'invalid-component', /the file is empty/],
  ['a gzip file', async () => gzipSync('x'), 'invalid-component', /begins with "1f 8b/],
  [
    'half a component',
    async () => (await readFile(hello)).subarray(0, 4000),
    'invalid-component',
    /cannot be transpiled/,
  ],
  [
    'half a module',
    async () => moduleExporting('_start').subarray(0, 20),
    'invalid-component',
    /longer than the file|ends in the middle/,
  ],
  [
    'a module that exports nothing known',
    async () => moduleExporting('main'),
    'invalid-component',
    /without component type information/,
  ],
  [
    'a guest of the old interface',
    async () => moduleExporting('handle-http-request'),
    'unsupported',
    /before components/,
  ],
  [
    'an old redis guest',
    async () => moduleExporting('handle-redis-message'),
    'unsupported',
    /before components/,
  ],
  [
    'broken text',
    async () => Buffer.from('(module (func'),
    'invalid-component',
    /not valid WebAssembly text/,
  ],
];

for (const [name, source, code, reason] of refused) {
  test(`${name} is refused in one line that names component and file`, async (t) => {
    const folder = await temporaryFolder(t);
    await assert.rejects(
      prepareApp(folder, manifest, { 'c.wasm': await source() }),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, code, error.message);
        assert.match(error.message, reason);
        assert.match(error.message, /component "c" \(".*c\.wasm"\)/);
        assert.ok(!error.message.includes('\n'));
        return true;
      },
    );
    const kept = await readdir(join(folder, 'store', 'components'));
    assert.deepEqual(kept, []);
  });
}

test('a file that is not there, a manifest that is not there, a manifest that is broken', async (t) => {
  const folder = await temporaryFolder(t);
  await assert.rejects(prepare(folderJob(folder)), { code: 'not-found', message: /app/ });
  await mkdir(join(folder, 'app'));
  await assert.rejects(prepare(folderJob(folder)), { code: 'not-found', message: /spin\.toml/ });
  await assert.rejects(prepareApp(folder, manifest), /c\.wasm/);
  await assert.rejects(prepareApp(folder, 'name ='), { code: 'invalid-manifest' });
});

const { adapters } = findInstallation();

/** An app of one component whose file has another digest than it says. */
function appOf(path: string): App {
  const digest = `sha256:${createHash('sha256').update('original').digest('hex')}`;
  const component = {
    id: 'c',
    source: { path, digest },
    environment: [],
    files: [],
    variables: [],
    allowedOutboundHosts: [],
    keyValueStores: [],
    sqliteDatabases: [],
    aiModels: [],
  };
  return { name: 'sample', variables: [], triggers: [], components: [component] };
}

test('a file that changed after its digest was taken is refused', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'c.wasm');
  await writeFile(path, 'changed');
  await assert.rejects(prepareInProcess(appOf(path), join(folder, 'store'), adapters, '0'), {
    code: 'digest-mismatch',
    message: /component "c" .* expected sha256:/,
  });
});

test('a source at the size limit is read, one byte more is refused before it is', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'c.wasm');
  await writeFile(path, '');
  const prepareOf = (size: number): Promise<unknown> =>
    truncate(path, size).then(() => prepareInProcess(appOf(path), join(folder, 'store'), adapters, '0'));
  await assert.rejects(prepareOf(maxComponentBytes + 1), { code: 'resource-exhausted' });
  await assert.rejects(prepareOf(maxComponentBytes), { code: 'digest-mismatch' });
});

test('a preparer that takes too long is ended', async (t) => {
  const folder = await temporaryFolder(t);
  await assert.rejects(prepare(folderJob(folder), { timeoutMs: 1 }), {
    code: 'deadline-exceeded',
    message: /longer than 1 ms/,
  });
});

/** Runs a preparation and kills each of its first `kills` preparers by `signal`; resolves with the warnings of it. */
async function preparedUnderFire(
  folder: string,
  kills: number,
  signal: NodeJS.Signals,
): Promise<{ readonly prepared: PreparedApp; readonly warnings: readonly string[] }> {
  const before = childrenOf(process.pid);
  const own = (): number[] => childrenOf(process.pid).filter((pid) => !before.includes(pid));
  const warnings: string[] = [];
  const shot = new Set<number>();
  const shoot = (): void => {
    const [pid] = own().filter((child) => !shot.has(child));
    if (pid === undefined || shot.size === kills) return;
    shot.add(pid);
    process.kill(pid, signal);
  };
  const preparing = prepare(folderJob(folder), {
    warn: (line) => {
      warnings.push(line);
      // The second one is spawned in this turn of the loop.
      setImmediate(shoot);
    },
  });
  shoot();
  const prepared = await preparing.finally(() => assert.equal(shot.size, kills));
  return { prepared, warnings };
}

test('a preparer that a signal ends is run once more, and that is told', async (t) => {
  for (const signal of ['SIGKILL', 'SIGTRAP', 'SIGSEGV'] as const) {
    const folder = await temporaryFolder(t);
    await writeApp(folder);
    const { prepared, warnings } = await preparedUnderFire(folder, 1, signal);
    assert.equal(prepared.components.length, 1);
    assert.equal(warnings.length, 1);
    assert.match(
      warnings[0] ?? '',
      new RegExp(`^the preparer ended without an answer \\(${signal}\\): .*; it is run once more$`),
    );
  }
});

test('a preparer that a signal ends twice is told with how it ended', async (t) => {
  const folder = await temporaryFolder(t);
  await writeApp(folder);
  await assert.rejects(preparedUnderFire(folder, 2, 'SIGKILL'), { code: 'internal', message: /SIGKILL/ });
});

async function writeApp(folder: string): Promise<void> {
  const app = join(folder, 'app');
  await mkdir(app);
  await writeFile(join(app, 'spin.toml'), manifest);
  await writeFile(join(app, 'c.wasm'), await readFile(hello));
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

test('a preparer that nobody waits for any more is ended', async (t) => {
  const folder = await temporaryFolder(t);
  const stop = new AbortController();
  const preparing = prepare(folderJob(folder), { signal: stop.signal });
  stop.abort();
  await assert.rejects(preparing, { code: 'unavailable', message: /cancelled/ });
  await assert.rejects(prepare(folderJob(folder), { signal: AbortSignal.abort() }), { code: 'unavailable' });
});
