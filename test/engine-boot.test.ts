import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';
import { transform } from 'esbuild';
import { encodeFrame, FrameReader } from '../src/engine/channel-frames.ts';
import { engineFlags } from '../src/engine/engine-process.ts';
import { SuiteCleanup, temporaryFolder } from '../src/engine/test-engine.ts';

const installation = join(import.meta.dirname, '..', 'dist', 'lib', 'spinshim');

/** Has every thread say on standard error which of Node's own modules it has when it says that it is ready. */
const probe = `
const { isMainThread, parentPort } = require('node:worker_threads');
const fs = require('node:fs');
const say = (thread) => fs.writeSync(2, JSON.stringify([thread, process.moduleLoadList]) + '\\n');
if (isMainThread) {
  const { writeSync } = fs;
  fs.writeSync = (fd, ...rest) => {
    if (fd === 3 && String(rest[0]).includes('"ready"')) say('main');
    return writeSync(fd, ...rest);
  };
} else {
  const post = parentPort.postMessage.bind(parentPort);
  parentPort.postMessage = (message, ...rest) => {
    if (message.type === 'ready') say('worker');
    if (message.type === 'rehearsed') say('serving worker');
    return post(message, ...rest);
  };
}`;

/** Boots an engine of an installation, has it rehearse, which its worker answers to, ends it, and gives what it wrote to standard error. */
async function boot(folder: string, flags: readonly string[] = []): Promise<string> {
  const engine = spawn(join(folder, 'node'), [...engineFlags, ...flags, join(folder, 'engine.cjs')], {
    env: {},
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'ignore'],
  });
  let said = '';
  engine.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const channel = engine.stdio[3] as Duplex;
  const reader = new FrameReader();
  const replies: unknown[] = [];
  channel.on('data', (chunk: Buffer) => {
    for (const reply of reader.push(chunk)) {
      replies.push(reply);
      if (replies.length === 1) channel.write(encodeFrame({ type: 'rehearse' }));
      else engine.kill('SIGTERM');
    }
  });
  const [exitCode] = (await once(engine, 'close')) as [number | null];
  assert.deepEqual([...replies, exitCode], [{ type: 'ready' }, { type: 'rehearsed' }, 0], said);
  return said;
}

test('an engine loads no HTTP client, TLS, cryptography or child processes, neither when it boots nor to serve', async () => {
  const suite = new SuiteCleanup();
  try {
    const preload = join(await temporaryFolder(suite), 'probe.cjs');
    await writeFile(preload, probe);
    const lines = (await boot(installation, ['--require', preload])).trim().split('\n');
    const loaded = new Map(lines.map((line) => JSON.parse(line) as [string, string[]]));
    assert.deepEqual([...loaded.keys()].sort(), ['main', 'serving worker', 'worker']);
    const costly = ['internal/deps/undici/undici', 'tls', 'https', 'http2'];
    const unwanted = {
      main: [...costly, 'http', 'crypto', 'fs/promises'],
      worker: [...costly, 'crypto', 'fs/promises', 'dns/promises'],
      'serving worker': [...costly, 'cluster', 'child_process', 'dgram'],
    };
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

test("an engine takes V8's form of its programs from the installation, also after that was moved, and makes what is not of use again", async () => {
  const suite = new SuiteCleanup();
  try {
    const moved = join(await temporaryFolder(suite), 'elsewhere');
    await mkdir(moved);
    const names = ['engine', 'worker'].flatMap((name) => [`${name}.cjs`, `${name}.js`, `${name}.js.v8`]);
    for (const name of [...names, 'thread-calls.so', 'v8-calls.node', 'rehearsal.wasm'])
      await cp(join(installation, name), join(moved, name));
    await symlink(join(installation, 'node'), join(moved, 'node'));
    const compiled = ['engine.js.v8', 'worker.js.v8'].map((name) => join(moved, name));
    const inodes = (): Promise<bigint[]> =>
      Promise.all(compiled.map(async (path) => (await stat(path, { bigint: true })).ino));

    const before = await inodes();
    await boot(moved);
    assert.deepEqual(await inodes(), before, 'nothing was written, since V8 took it');

    for (const path of compiled) await writeFile(path, (await readFile(path)).subarray(0, 1000));
    await boot(moved);
    const again = await inodes();
    for (const [index, inode] of again.entries()) assert.notEqual(inode, before[index], names[index] ?? '');
    await boot(moved);
    assert.deepEqual(await inodes(), again, 'what was made again is of use');
  } finally {
    await suite.run();
  }
});

test('what runs in an engine is strict code, as modules are, and in ASCII but for comments', async () => {
  for (const name of ['engine', 'worker', 'shell', 'undici']) {
    const text = await readFile(join(installation, `${name}.js`), 'utf8');
    assert.match(text.slice(0, 100), /^\(function \(require, module, __filename\) \{\n'use strict';/, name);
    const { code } = await transform(text, { minifyWhitespace: true, legalComments: 'none' });
    assert.ok(!/[^\0-\x7f]/.test(code), name);
  }
});
