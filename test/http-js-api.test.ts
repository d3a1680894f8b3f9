import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { prepare } from '../src/engine/prepare.ts';
import type { PreparedApp } from '../src/engine/prepared-app.ts';
import { fixtures, SuiteCleanup, TestEngine, temporaryFolder } from '../src/engine/test-engine.ts';

const suite = new SuiteCleanup();

/** What smaps tells of the mappings of a file: KiB by name. */
function mappingsOf(smaps: string, path: string): readonly ReadonlyMap<string, number>[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).flatMap((mapping) => {
    const [first = '', ...rest] = mapping.split('\n');
    if (!first.endsWith(path)) return [];
    const amounts = rest.map((line) => /^(\w+): +(\d+) kB$/.exec(line));
    return [
      new Map(amounts.flatMap((found) => (found === null ? [] : [[found[1] ?? '', Number(found[2])]]))),
    ];
  });
}

function sum(mappings: readonly ReadonlyMap<string, number>[], name: string): number {
  return mappings.reduce((total, amounts) => total + (amounts.get(name) ?? 0), 0);
}

describe('a JavaScript guest in a real engine', { timeout: 120_000 }, () => {
  let folder: string;
  let prepared: PreparedApp;
  let engine: TestEngine;

  before(async () => {
    folder = await temporaryFolder(suite);
    prepared = await prepare({
      source: { kind: 'folder', manifest: join(fixtures, 'build', 'js-api', 'spin.toml'), mode: 'copy' },
      storeDir: join(folder, 'store'),
      workDir: join(folder, 'work'),
    });
    engine = await TestEngine.start(suite, prepared, {
      environment: [['SPIN_VARIABLE_GREETING', 'welcome']],
      stateDir: folder,
    });
  });

  after(() => suite.run());

  test('greets, echoes a stream, and answers a second request', async () => {
    assert.deepEqual(await engine.text('/hello/you'), [200, 'Hello, you!\n']);
    assert.deepEqual(await engine.text('/echo', { method: 'POST', body: 'payload' }), [200, 'payload']);
    assert.deepEqual(await engine.text('/stream/3/1'), [200, 'line 0\nline 1\nline 2\n']);
    assert.deepEqual(await engine.text('/hello'), [200, 'Hello, world!\n']);
  });

  test('variables come from the environment of the container', async () => {
    assert.deepEqual(await engine.text('/variable/greeting'), [200, 'welcome']);
    const [status, body] = await engine.text('/variable/missing');
    assert.equal(status, 500);
    assert.match(body, /undefined/);
  });

  test('key-value: set, list, get, delete, each answered as the guest says', async () => {
    assert.deepEqual(await engine.text('/kv/one', { method: 'PUT', body: 'first' }), [204, '']);
    assert.deepEqual(await engine.text('/kv/one', { method: 'PUT', body: 'second' }), [204, '']);
    assert.deepEqual(await engine.text('/kv'), [200, '["one"]']);
    assert.deepEqual(await engine.text('/kv/one'), [200, 'second']);
    assert.deepEqual(await engine.text('/kv/one', { method: 'DELETE' }), [204, '']);
    assert.deepEqual(await engine.text('/kv/one'), [404, 'no such key\n']);
    const answer = await fetch(`${engine.base}/kv/two`, { method: 'PUT', body: 'x' });
    assert.deepEqual(
      [...answer.headers.keys()].filter((name) => name !== 'date'),
      [],
    );
  });

  test('key-value outlives the engine', async (t) => {
    assert.equal((await engine.text('/kv/kept', { method: 'PUT', body: 'still here' }))[0], 204);
    const second = await TestEngine.start(t, prepared, { stateDir: folder });
    assert.equal(await (await fetch(`${second.base}/kv/kept`)).text(), 'still here');
  });

  test('engines of one component share its memory at the start, and each has what it writes for itself', async (t) => {
    const second = await TestEngine.start(t, prepared, { stateDir: folder });
    for (const each of [engine, second])
      assert.deepEqual(await each.text('/hello'), [200, 'Hello, world!\n']);
    const entry = prepared.components[0]?.entryPath ?? '';
    for (const { process } of [engine, second]) {
      const parts = mappingsOf(await readFile(`/proc/${process.pid}/smaps`, 'utf8'), entry);
      assert.ok(sum(parts, 'Shared_Clean') > 1024, 'the pages of the file that both have');
      assert.ok(sum(parts, 'Private_Dirty') > 0);
      assert.ok(sum(parts, 'Shared_Clean') > sum(parts, 'Private_Dirty'));
    }
  });

  test('files, environment and log', async () => {
    const [status, note] = await engine.text('/file/static/note.txt');
    assert.equal(status, 200);
    assert.ok(note.length > 0);
    assert.deepEqual(await engine.text('/env'), [200, '[["COLOUR","blue"]]']);
    await engine.text('/log', { method: 'POST', body: 'from JavaScript' });
    await engine.until('stdout', (all) => all.includes('from JavaScript\n'));
    await engine.until('stderr', (all) => all.includes('from JavaScript\n'));
  });

  test('fetch reaches what is granted and nothing else', async (t) => {
    const server = createServer((_incoming, response) => response.end('outside'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    const outbound = (url: string): Promise<[number, string]> =>
      engine.text(`/outbound?url=${encodeURIComponent(url)}`);
    assert.deepEqual(await outbound(`http://127.0.0.1:${port}/`), [200, '{"status":200,"body":"outside"}']);
    assert.equal((await outbound('http://example.com/'))[0], 500);
  });

  test('forty requests at once each get their own answer', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `guest-${index}`);
    const answers = await Promise.all(names.map((name) => engine.text(`/hello/${name}`)));
    assert.deepEqual(
      answers,
      names.map((name) => [200, `Hello, ${name}!\n`]),
    );
  });
});
