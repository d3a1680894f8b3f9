import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, request } from 'node:http';
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
import { leaveAfterFirstByte, streamThrough } from './support/clients.ts';

const suite = new SuiteCleanup();

const manifest = `spin_manifest_version = 2
[application]
name = "p3"
version = "0.1.0"
[[trigger.http]]
route = "/..."
component = "p3"
[[trigger.http]]
route = "/rc/..."
component = "rc"
[component.p3]
source = "rust-p3.wasm"
environment = { COLOUR = "blue" }
files = [{ source = "static", destination = "/static" }]
allowed_outbound_hosts = ["http://127.0.0.1:*"]
[component.rc]
source = "rust-p3-rc.wasm"
`;

describe('guests of WASI 0.3 in a real engine', { timeout: 120_000 }, () => {
  let prepared: PreparedApp;
  let engine: TestEngine;

  before(async () => {
    const folder = await temporaryFolder(suite);
    prepared = await prepareApp(folder, manifest, {
      'rust-p3.wasm': join(fixtures, 'rust-p3', 'rust-p3.wasm'),
      'rust-p3-rc.wasm': join(fixtures, 'rust-p3', 'rust-p3-rc.wasm'),
      'static/note.txt': Buffer.from('a note\n'),
    });
    engine = await TestEngine.start(suite, prepared);
  });

  after(() => suite.run());

  test('0.3.0 and its release candidate of 2026-03-15 answer side by side', async () => {
    const [status, body] = await engine.text('/hello/you');
    assert.deepEqual([status, body], [200, 'Hello, you, from Rust on WASI 0.3\n']);
    assert.deepEqual(await engine.text('/rc/hello/you'), [200, body]);
    assert.equal(await streamThrough(engine.port, 256 * 1024, '/rc/copy'), 256 * 1024);
    assert.deepEqual(await engine.text('/rc/stream/2/1'), [200, 'chunk 0\nchunk 1\n']);
    assert.deepEqual(await engine.text('/rc/both'), [200, 'true\n']);
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
      'path=/request?a=b',
      'header x-y: z',
      'header spin-path-info: /request',
      'body=payload',
    ])
      assert.ok(body.includes(`${line}\n`), `${line} in ${body}`);
  });

  test('environment, files, clocks of both generations, and what is not granted', async () => {
    assert.deepEqual(await engine.text('/env'), [200, 'COLOUR=blue\n']);
    assert.deepEqual(await engine.text('/file/static/note.txt'), [200, 'a note\n']);
    for (const path of ['/file/static/missing', '/file/static/..%2f..%2fetc%2fpasswd'])
      assert.equal((await engine.text(path))[0], 404, path);
    assert.deepEqual(await engine.text('/write/static/new.txt'), [403, 'ErrorCode::NotPermitted\n']);
    assert.deepEqual(await engine.text('/both'), [200, 'true\n']);
    assert.deepEqual(await engine.text('/random'), [200, '16\n']);
  });

  test('an instance serves some requests one after another, and never two at once', async () => {
    const counts: number[] = [];
    for (let index = 0; index < 40; index++) counts.push(Number((await engine.text('/count'))[1]));
    assert.ok(Math.max(...counts) <= 32 && Math.max(...counts) > 1, String(counts));
    // The instance that sleeps has served before, or is new; the one that counts is another.
    const sleeping = engine.text('/sleep/200');
    assert.equal((await engine.text('/count'))[0], 200);
    assert.deepEqual(await sleeping, [200, 'slept\n']);
    assert.equal((await engine.text('/count'))[0], 200);
  });

  test('a body streams both ways at once, and trailers follow it', async () => {
    const outgoing = request({
      port: engine.port,
      host: '127.0.0.1',
      method: 'POST',
      path: '/copy',
      headers: { te: 'trailers', trailer: 'x-sum', 'transfer-encoding': 'chunked' },
    });
    outgoing.write('one');
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    assert.equal(String((await once(response, 'data'))[0]), 'one');
    outgoing.write('two');
    assert.equal(String((await once(response, 'data'))[0]), 'two');
    outgoing.addTrailers({ 'x-sum': '6' });
    outgoing.end();
    response.resume();
    await once(response, 'end');
    assert.deepEqual({ ...response.trailers }, { 'x-sum': '6', 'x-copied': 'yes' });
  });

  test('large bodies come through whole, copied or handed on', async () => {
    const total = 4 * 1024 * 1024;
    assert.equal(await streamThrough(engine.port, total, '/copy'), total);
    assert.equal(await streamThrough(engine.port, total, '/echo'), total);
    const sent = randomBytes(1_000_003);
    for (const path of ['/copy', '/echo']) {
      const response = await fetch(`${engine.base}${path}`, { method: 'POST', body: sent });
      assert.ok(sent.equals(Buffer.from(await response.arrayBuffer())), path);
    }
    const [status, body] = await engine.text(`/large/${total}`);
    assert.deepEqual([status, body.length], [200, total]);
    assert.deepEqual(await engine.text('/ignore', { method: 'POST', body: 'x'.repeat(100_000) }), [
      200,
      'ignored\n',
    ]);
  });

  test('fifty guests that sleep do so together', async () => {
    const started = performance.now();
    const inFlight = Array.from({ length: 50 }, () => engine.text('/sleep/300'));
    for (const answer of await Promise.all(inFlight)) assert.deepEqual(answer, [200, 'slept\n']);
    // One after another they would need 15 s.
    assert.ok(performance.now() - started < 10_000);
  });

  test('granted hosts are reached with bodies, others are refused, and a line says how to allow them', async (t) => {
    const server = createServer(async (incoming, response) => {
      const chunks = await incoming.toArray();
      response.end(`${incoming.method} ${incoming.url} ${Buffer.concat(chunks)}`);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    const outbound = (body: string): Promise<[number, string]> =>
      engine.text('/outbound', { method: 'POST', body });
    assert.deepEqual(await outbound(`GET http 127.0.0.1:${port} /x`), [200, '200 sent=true GET /x ']);
    assert.deepEqual(await outbound(`POST http 127.0.0.1:${port} /y some text`), [
      200,
      '200 sent=true POST /y some text',
    ]);
    const [status, body] = await outbound(`GET http localhost:${port} /x`);
    assert.equal(status, 502);
    assert.match(body, /HttpRequestDenied/);
    await engine.until('stderr', (log) => log.includes(`http://localhost:${port}`));
    assert.match((await outbound('GET http 127.0.0.1:1 /x'))[1], /ConnectionRefused/);
  });

  test('trap, exit, an error and a guest that waits for itself are 500, told in one line each', async () => {
    for (const path of ['/panic', '/exit', '/error', '/stuck']) {
      const response = await fetch(`${engine.base}${path}?secret=1`);
      assert.deepEqual([response.status, await response.text()], [500, ''], path);
      const log = await engine.until('stderr', (all) => all.includes(`(GET ${path})\n`));
      assert.equal(log.split(`(GET ${path})\n`).length, 2);
      assert.ok(!log.includes('secret'));
    }
    assert.equal((await engine.text('/hello'))[0], 200);
  });

  test('a guest that traps in the middle, or writes less than it announced, cuts its response', async () => {
    for (const path of ['/cut', '/short']) {
      await assert.rejects(engine.text(path), TypeError, path);
      await engine.until('stderr', (log) => log.includes(`(GET ${path})\n`));
    }
    assert.match(await engine.stderr(), /did not complete its response: unreachable \(GET \/cut\)/);
  });

  test('a guest may go on when its response is sent, and what it prints arrives', async () => {
    assert.deepEqual(await engine.text('/after'), [200, 'first\n']);
    await engine.until('stdout', (log) => log.includes('after the response\n'));
    assert.deepEqual(await engine.text('/log'), [200, 'logged\n']);
    const log = await engine.until('stdout', (all) => all.includes('from 0.2\n'));
    assert.ok(log.includes('from 0.3\n'));
  });

  test('clients that leave, before the response or in its middle, free their instances', async () => {
    const limited = await TestEngine.start(suite, prepared, {
      environment: [['SPIN_MAX_INSTANCE_COUNT', '1']],
    });
    for (let round = 0; round < 3; round++) {
      await leaveAfterFirstByte(limited.port, '/stream/1000000/1');
      await leaveWaiting(limited.port, '/forever');
    }
    assert.equal((await fetch(`${limited.base}/hello`)).status, 200);
  });
});

/** Sends a request and closes the connection as soon as it is written. */
async function leaveWaiting(port: number, path: string): Promise<void> {
  const outgoing = get({ port, host: '127.0.0.1', path });
  outgoing.on('error', () => {});
  await once(outgoing, 'finish');
  const closed = new Promise((resolve) => outgoing.on('close', resolve));
  outgoing.destroy();
  await closed;
}
