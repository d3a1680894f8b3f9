import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { compileCacheVariables } from '../src/engine/compile-cache.ts';
import { engineFlags } from '../src/engine/engine-process.ts';
import { SuiteCleanup, temporaryFolder } from '../src/engine/test-engine.ts';

const installation = join(import.meta.dirname, '..', 'dist', 'lib', 'spinshim');

/** Has every thread say on standard error which of Node's own modules it has when it says that it is ready. */
const probe = `
const { isMainThread, parentPort } = require('node:worker_threads');
const [holder, name] = isMainThread ? [process, 'send'] : [parentPort, 'postMessage'];
const send = holder[name].bind(holder);
const say = require('node:fs').writeSync;
holder[name] = (message, ...rest) => {
  if (message.type === 'ready')
    say(2, JSON.stringify([isMainThread ? 'main' : 'worker', process.moduleLoadList]) + '\\n');
  return send(message, ...rest);
};`;

/** Boots an engine of an installation, has it rehearse, which its worker answers to, ends it, and gives what it wrote to standard error. */
async function boot(
  folder: string,
  flags: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<string> {
  const args = [...engineFlags, ...flags, join(folder, 'engine.cjs')];
  const engine = spawn(join(folder, 'node'), args, {
    env: environment,
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc', 'ignore'],
  });
  let said = '';
  engine.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const closed = once(engine, 'close');
  const next = async (): Promise<unknown> => (await Promise.race([once(engine, 'message'), closed]))[0];
  const first = await next();
  engine.send({ type: 'rehearse' });
  const second = await next();
  engine.kill('SIGTERM');
  const [exitCode] = (await closed) as [number | null];
  assert.deepEqual([first, second, exitCode], [{ type: 'ready' }, { type: 'rehearsed' }, 0], said);
  return said;
}

test('an engine that boots loads no HTTP client, no TLS and no cryptography', async () => {
  const suite = new SuiteCleanup();
  try {
    const preload = join(await temporaryFolder(suite), 'probe.cjs');
    await writeFile(preload, probe);
    const lines = (await boot(installation, ['--require', preload], {})).trim().split('\n');
    const loaded = new Map(lines.map((line) => JSON.parse(line) as [string, string[]]));
    assert.deepEqual([...loaded.keys()].sort(), ['main', 'worker']);
    const costly = ['internal/deps/undici/undici', 'tls', 'https', 'http2'];
    const unwanted = { main: [...costly, 'http', 'crypto'], worker: [...costly, 'crypto'] };
    for (const [thread, names] of Object.entries(unwanted)) {
      const has = new Set(loaded.get(thread));
      assert.ok(has.has('NativeModule fs'), 'the list names modules in this form');
      assert.deepEqual(
        names.filter((name) => has.has(`NativeModule ${name}`)),
        [],
        `the ${thread} thread`,
      );
    }
  } finally {
    await suite.run();
  }
});

test("an engine takes V8's compiled form of its code from the installation, also after that was moved", async () => {
  const suite = new SuiteCleanup();
  try {
    const moved = join(await temporaryFolder(suite), 'elsewhere');
    await mkdir(moved);
    for (const name of [
      'engine.cjs',
      'worker.cjs',
      'thread-calls.so',
      'compiled-code.node',
      'rehearsal.wasm',
      'compile-cache',
    ])
      await cp(join(installation, name), join(moved, name), { recursive: true });
    await symlink(join(installation, 'node'), join(moved, 'node'));
    for (const folder of [installation, moved]) {
      const said = await boot(folder, [], {
        ...compileCacheVariables(join(folder, 'compile-cache')),
        NODE_DEBUG_NATIVE: 'COMPILE_CACHE',
      });
      const accepted = [...said.matchAll(/cache for CommonJS (\S+) was accepted/g)].map(
        ([, path = '']) => path,
      );
      assert.deepEqual(accepted.map((path) => basename(path)).sort(), ['engine.cjs', 'worker.cjs'], said);
    }
  } finally {
    await suite.run();
  }
});

test('what runs in an engine is strict code, as modules are', async () => {
  for (const name of ['engine', 'worker', 'shell']) {
    const text = await readFile(join(installation, `${name}.cjs`), 'utf8');
    assert.match(text, /^'use strict';/, name);
  }
});
