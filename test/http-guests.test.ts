import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PreparedApp } from '../src/engine/prepared-app.ts';
import {
  fixtures,
  prepareApp,
  SuiteCleanup,
  TestEngine,
  temporaryFolder,
} from '../src/engine/test-engine.ts';
import { leaveAfterFirstByte, residentBytes, streamThrough } from './support/clients.ts';

const suite = new SuiteCleanup();

const manifest = `spin_manifest_version = 2
[application]
name = "guests"
version = "0.1.0"
[[trigger.http]]
route = "/..."
component = "rust"
[[trigger.http]]
route = "/core/..."
component = "core"
[component.rust]
source = "rust-http.wasm"
environment = { COLOUR = "blue" }
files = [{ source = "static", destination = "/static" }]
allowed_outbound_hosts = ["http://self", "http://127.0.0.1:*"]
[component.core]
source = "rust-http.core.wasm"
`;

describe('real guests in a real engine', { timeout: 120_000 }, () => {
  let prepared: PreparedApp;
  let engine: TestEngine;

  before(async () => {
    const folder = await temporaryFolder(suite);
    prepared = await prepareApp(folder, manifest, {
      'rust-http.wasm': join(fixtures, 'rust-http', 'rust-http.wasm'),
      'rust-http.core.wasm': join(fixtures, 'rust-http', 'rust-http.core.wasm'),
      'static/note.txt': Buffer.from('a note\n'),
    });
    engine = await TestEngine.start(suite, prepared);
  });

  after(() => suite.run());

  test('a component and a lifted core module answer', async () => {
    assert.deepEqual(await engine.text('/hello/you'), [200, 'Hello, you, from Rust\n']);
    const [status, body] = await engine.text('/core/hello');
    assert.deepEqual([status, body.includes('not found')], [404, true]);
  });

  test('the guest sees the request as it was sent', async () => {
    const [, body] = await engine.text('/request?a=b', {
      method: 'PUT',
      body: 'payload',
      headers: { 'x-y': 'z' },
    });
    for (const line of [
      'method=PUT',
      'scheme=http',
      `authority=127.0.0.1:${engine.port}`,
      'path=/request',
      'query=a=b',
      'header x-y: z',
      'header spin-path-info: /request',
      'body=payload',
    ])
      assert.ok(body.includes(`${line}\n`), `${line} in ${body}`);
  });

  test('each request has an instance of its own that sees nothing of the others', async () => {
    for (let index = 0; index < 5; index++)
      assert.deepEqual(await engine.text('/count', { method: 'POST', body: 'xy' }), [200, '2\n']);
  });

  test('environment, files and what is not granted', async () => {
    assert.deepEqual(await engine.text('/env'), [200, 'COLOUR=blue\n']);
    assert.deepEqual(await engine.text('/file/static/note.txt'), [200, 'a note\n']);
    for (const path of ['/file/etc/passwd', '/file/static/..%2f..%2fetc%2fpasswd', '/file/static/missing'])
      assert.equal((await engine.text(path))[0], 404, path);
    assert.equal((await engine.text('/write/static/new.txt', { method: 'POST', body: 'x' }))[0], 403);
  });

  test('a hundred guests that sleep do so together', async () => {
    const inFlight = Array.from({ length: 100 }, () => engine.text('/stream/1/300'));
    const started = performance.now();
    for (const [status, body] of await Promise.all(inFlight))
      assert.deepEqual([status, body], [200, 'chunk 0\n']);
    // One after another they would need 30 s.
    assert.ok(performance.now() - started < 15_000);
  });

  test('32 MiB stream through a guest both ways while memory stays flat', async () => {
    const total = 32 * 1024 * 1024;
    await streamThrough(engine.port, 1024 * 1024);
    const before = await residentBytes(engine.process.pid);
    assert.equal(await streamThrough(engine.port, total), total);
    const grown = (await residentBytes(engine.process.pid)) - before;
    assert.ok(grown < 64 * 1024 * 1024, `${grown} bytes`);
    const [status, body] = await engine.text(`/large/${total}`);
    assert.deepEqual([status, body.length], [200, total]);
  });

  test('trap, panic, no answer and an error are 500, told in one line each, and the next request works', async () => {
    for (const path of ['/panic', '/noresponse', '/error']) {
      const response = await fetch(`${engine.base}${path}?secret=1`);
      assert.deepEqual([response.status, await response.text()], [500, ''], path);
      const log = await engine.until('stderr', (all) => all.includes(`(GET ${path})\n`));
      assert.equal(log.split(`(GET ${path})\n`).length, 2);
      assert.ok(!log.includes('secret'));
    }
    assert.deepEqual(await engine.text('/hello'), [200, 'Hello, world, from Rust\n']);
  });

  test('a guest that wants more memory than there is fails alone', async () => {
    const bystander = engine.text('/stream/3/100');
    const [status] = await engine.text('/alloc/4000');
    assert.equal(status, 500);
    assert.deepEqual(await bystander, [200, 'chunk 0\nchunk 1\nchunk 2\n']);
    assert.equal((await engine.text('/alloc/10'))[0], 200);
  });

  test('SPIN_MAX_INSTANCE_MEMORY caps each instance', async () => {
    const limited = await TestEngine.start(suite, prepared, {
      environment: [['SPIN_MAX_INSTANCE_MEMORY', String(64 * 1024 * 1024)]],
    });
    assert.equal((await fetch(`${limited.base}/alloc/40`)).status, 200);
    assert.equal((await fetch(`${limited.base}/alloc/80`)).status, 500);
    assert.equal((await fetch(`${limited.base}/hello`)).status, 200);
  });

  test('granted hosts are reached, others are refused, and a line says how to allow them', async (t) => {
    const server = createServer((incoming, response) => response.end(`at ${incoming.url}`));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    const outbound = (body: string): Promise<[number, string]> =>
      engine.text('/outbound', { method: 'POST', body });
    assert.deepEqual(await outbound(`http 127.0.0.1:${port} /x`), [200, '200 at /x']);
    const [status, body] = await outbound(`http localhost:${port} /x`);
    assert.equal(status, 502);
    assert.match(body, /HttpRequestDenied/);
    await engine.until('stderr', (log) => log.includes(`http://localhost:${port}`));
  });

  test('the app reaches itself', async () => {
    const [status, body] = await engine.text('/outbound', {
      method: 'POST',
      body: `http 127.0.0.1:${engine.port} /hello/self`,
    });
    assert.deepEqual([status, body], [200, '200 Hello, self, from Rust\n']);
  });

  test('what guests print arrives whole, each stream in order', async () => {
    for (let index = 0; index < 20; index++) await engine.text(`/log?line-${index}`);
    const expected = Array.from({ length: 20 }, (_, index) => `line-${index}`);
    for (const [stream, prefix] of [
      ['stdout', 'out '],
      ['stderr', 'err '],
    ] as const) {
      const all = await engine.until(stream, (log) => log.includes('line-19\n'));
      const lines = all.split('\n').filter((line) => line.startsWith(prefix));
      assert.deepEqual(
        lines,
        expected.map((line) => prefix + line),
      );
    }
  });

  test('clients that leave in the middle free their instances', async () => {
    const limited = await TestEngine.start(suite, prepared, {
      environment: [['SPIN_MAX_INSTANCE_COUNT', '2']],
    });
    for (let round = 0; round < 5; round++) {
      await Promise.all([
        leaveAfterFirstByte(limited.port, '/stream/1000000/1'),
        leaveAfterFirstByte(limited.port, '/stream/1000000/1'),
      ]);
    }
    assert.equal((await fetch(`${limited.base}/hello`)).status, 200);
  });
});
