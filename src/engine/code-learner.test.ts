import assert from 'node:assert/strict';
import { copyFile, lstat, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { learnCode } from './code-learner.ts';
import { codePathOf, openCode, writeCode } from './code-store.ts';
import { type EngineClaim, EngineProcess } from './engine-process.ts';
import type { PreparedApp } from './prepared-app.ts';
import { type Cleanup, fixtures, prepareApp, temporaryFolder } from './test-engine.ts';

const warn = (line: string): never => assert.fail(line);

const manifest = (name: string): string => `spin_manifest_version = 2
[application]
name = "${name}"
[[trigger.http]]
route = "/..."
component = "web"
[component.web]
source = "web.wasm"
`;

const prepareSample = (folder: string, app: 'hello' | 'rust-http'): Promise<PreparedApp> =>
  prepareApp(folder, manifest(app), { 'web.wasm': join(fixtures, app, `${app}.wasm`) });

/** Claims an engine for the app, asks once, and tells whether the app came with code. */
async function start(
  t: Cleanup,
  folder: string,
  prepared: PreparedApp,
  changes: Partial<EngineClaim> = {},
): Promise<{ readonly hasCode: boolean | undefined; readonly status: number }> {
  const engine = await EngineProcess.spawn();
  t.after(async () => {
    engine.signal('SIGKILL');
    await engine.exited;
  });
  const { components } = await engine.claim({
    id: 'code',
    prepared,
    network: { kind: 'host' },
    environment: [],
    args: [],
    stdout: { kind: 'null' },
    stderr: { kind: 'null' },
    stateDir: folder,
    listen: '127.0.0.1:0',
    ...changes,
  });
  const { addresses } = await engine.start();
  const { status } = await fetch(`http://${addresses[0]}/`);
  return { hasCode: components[0]?.hasCode, status };
}

const entryOf = ({ components }: PreparedApp): string => components[0]?.entryPath ?? '';

test('an engine has the code that was learned, whatever its memory limit is', async (t) => {
  const folder = await temporaryFolder(t);
  const prepared = await prepareSample(folder, 'rust-http');
  assert.deepEqual(await start(t, folder, prepared), { hasCode: false, status: 200 });
  const bytes = await learnCode(prepared, 'web', { warn });
  assert.ok(bytes > 10_000, `${bytes} bytes`);
  const { mode } = await lstat(codePathOf(entryOf(prepared)));
  assert.equal(mode & 0o777, 0o600);
  assert.deepEqual(await start(t, folder, prepared), { hasCode: true, status: 200 });
  const memoryLimit = 64 * 1024 * 1024;
  assert.deepEqual(await start(t, folder, prepared, { memoryLimit }), { hasCode: true, status: 200 });
  const security = { uid: 65_534, gid: 65_534, groups: [], capabilities: [], limits: [] };
  assert.deepEqual(await start(t, folder, prepared, { security }), { hasCode: true, status: 200 });
});

test('code that was changed, or lies where it does not belong, is not used', async (t) => {
  const folder = await temporaryFolder(t);
  const hello = await prepareSample(folder, 'hello');
  const other = await prepareSample(folder, 'rust-http');
  await learnCode(hello, 'web', { warn });
  await copyFile(codePathOf(entryOf(hello)), codePathOf(entryOf(other)));
  assert.equal(openCode(entryOf(other)), undefined);
  assert.deepEqual(await start(t, folder, other), { hasCode: false, status: 200 });
  const path = codePathOf(entryOf(hello));
  const file = await readFile(path);
  file.writeUInt8((file.at(-1) ?? 0) ^ 1, file.length - 1);
  await writeFile(path, file);
  assert.deepEqual(await start(t, folder, hello), { hasCode: false, status: 200 });
  assert.ok((await learnCode(hello, 'web', { warn })) > 0);
  assert.deepEqual(await start(t, folder, hello), { hasCode: true, status: 200 });
});

test('code that V8 does not take is compiled anew', async (t) => {
  const folder = await temporaryFolder(t);
  const prepared = await prepareSample(folder, 'hello');
  await learnCode(prepared, 'web', { warn });
  const code = new Map(
    [...(openCode(entryOf(prepared))?.code ?? [])].map(([name]) => [name, new Uint8Array(100)]),
  );
  await writeCode(entryOf(prepared), code, warn);
  assert.deepEqual(await start(t, folder, prepared), { hasCode: false, status: 200 });
});

test('what is kept is bounded, the oldest goes first', async (t) => {
  const folder = await temporaryFolder(t);
  const hello = await prepareSample(folder, 'hello');
  const other = await prepareSample(folder, 'rust-http');
  await writeCode(entryOf(hello), new Map([['core0.wasm', new Uint8Array(1000)]]), warn, 1500);
  await writeCode(entryOf(other), new Map([['core0.wasm', new Uint8Array(1000)]]), warn, 1500);
  const kept = await readdir(dirname(codePathOf(entryOf(hello))));
  assert.deepEqual(kept, [codePathOf(entryOf(other)).slice(dirname(codePathOf(entryOf(other))).length + 1)]);
  const much = new Map([['core0.wasm', new Uint8Array(64 * 1024 ** 2 + 1)]]);
  await assert.rejects(writeCode(entryOf(hello), much, warn), { code: 'resource-exhausted' });
});

test('a guest that never comes to an end is given up, and leaves nothing', async (t) => {
  const folder = await temporaryFolder(t);
  const route = manifest('forever').replace('"/..."', '"/forever"');
  const prepared = await prepareApp(folder, route, {
    'web.wasm': join(fixtures, 'rust-http', 'rust-http.wasm'),
  });
  await rm(codePathOf(entryOf(prepared)), { force: true });
  let pid = 0;
  await assert.rejects(
    learnCode(prepared, 'web', {
      warn,
      busyTimeoutMs: 200,
      onEngine: (engine) => {
        pid = engine.pid;
      },
    }),
    { code: 'unavailable' },
  );
  assert.equal(openCode(entryOf(prepared)), undefined);
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});
