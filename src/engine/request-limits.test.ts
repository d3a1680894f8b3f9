import assert from 'node:assert/strict';
import { get } from 'node:http';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { EngineProcess } from './engine-process.ts';
import type { PreparedApp } from './prepared-app.ts';
import { claimOf, fixtures, prepareApp, SuiteCleanup, TestEngine, temporaryFolder } from './test-engine.ts';

const suite = new SuiteCleanup();

const manifest = `spin_manifest_version = 2
[application]
name = "limits"
[[trigger.http]]
route = "/..."
component = "rust"
[component.rust]
source = "rust-http.wasm"
`;

describe('the limits of requests, in an engine', { timeout: 120_000 }, () => {
  let prepared: PreparedApp;

  before(async () => {
    prepared = await prepareApp(await temporaryFolder(suite), manifest, {
      'rust-http.wasm': join(fixtures, 'rust-http', 'rust-http.wasm'),
    });
  });

  after(() => suite.run());

  test('a guest that waits beyond its time: 504 before its answer, a cut after its head, a line for each', async (t) => {
    const engine = await TestEngine.start(t, prepared, { environment: [['SPIN_REQUEST_TIMEOUT', '300ms']] });
    const streamed = await fetch(`${engine.base}/stream/1000/10`);
    assert.equal(streamed.status, 200);
    await assert.rejects(streamed.text());
    const line =
      /^component "rust" did not complete its response: the request took longer than 300 ms \(SPIN_REQUEST_TIMEOUT\) \(GET \/stream\/1000\/10\)\n$/;
    await engine.until('stderr', (text) => line.test(text));
    const silent = await fetch(`${engine.base}/count`, {
      method: 'POST',
      body: neverEnding(),
      duplex: 'half',
    } as RequestInit);
    assert.equal(silent.status, 504);
    assert.equal((await fetch(`${engine.base}/hello`)).status, 200);
  });

  test('beyond instances and queue: 503 with the time to come again, and one line', async (t) => {
    const engine = await TestEngine.start(t, prepared, {
      environment: [
        ['SPIN_MAX_INSTANCE_COUNT', '1'],
        ['SPIN_MAX_WAITING_REQUESTS', '1'],
      ],
    });
    const first = await fetch(`${engine.base}/stream/1000/10`);
    const refused: Response[] = [];
    const others = Array.from({ length: 6 }, async () => {
      const answer = await fetch(`${engine.base}/hello`);
      if (answer.status === 503) refused.push(answer);
      return answer.status;
    });
    // Whichever came first waits for the instance.
    while (refused.length < 5) await new Promise((resolve) => setTimeout(resolve, 5));
    for (const answer of refused) assert.equal(answer.headers.get('retry-after'), '1');
    await first.body?.cancel();
    assert.deepEqual((await Promise.all(others)).sort(), [200, ...refused.map(() => 503)]);
    const log = await engine.stderr();
    assert.equal(log.split('SPIN_MAX_WAITING_REQUESTS').length, 2, log);
  });

  test('a guest that computes for ever is ended with its worker, named, and others are served meanwhile', async (t) => {
    const engine = await TestEngine.start(t, prepared, { environment: [['SPIN_BUSY_TIMEOUT', '6s']] });
    const begun = performance.now();
    const forever = fetch(`${engine.base}/forever?secret`).then(
      () => 'answered',
      () => performance.now() - begun,
    );
    // The stuck worker accepts nothing any more: whoever comes now comes to its stand-in.
    await engine.untilWorkers(2);
    const served = await other(engine, '/hello');
    assert.equal(served, '200 Hello, world, from Rust\n');
    const took = await forever;
    assert.ok(typeof took === 'number' && took >= 6_000, String(took));
    const log = await engine.until('stderr', (text) => text.endsWith('\n'));
    assert.equal(
      log,
      'a guest computed for 6 s without waiting (SPIN_BUSY_TIMEOUT), its worker is ended and started again (request in flight: component "rust", GET /forever)\n',
    );
    assert.equal(await other(engine, '/hello'), '200 Hello, world, from Rust\n');
  });

  test('the time of the request ends a guest that computes, with the requests that share its worker', async (t) => {
    const engine = await TestEngine.start(t, prepared, { environment: [['SPIN_REQUEST_TIMEOUT', '700ms']] });
    const streamed = await fetch(`${engine.base}/stream/1000/1`);
    await assert.rejects(fetch(`${engine.base}/forever`));
    await assert.rejects(streamed.text());
    const log = await engine.until('stderr', (text) => text.includes('\n'));
    assert.match(log, /SPIN_REQUEST_TIMEOUT/);
    assert.equal(await other(engine, '/hello'), '200 Hello, world, from Rust\n');
  });

  test('workers by quota share one socket and the count of instances, and all of them drain', async (t) => {
    const engine = await TestEngine.start(t, prepared, {
      cpus: 1.5,
      environment: [
        ['SPIN_MAX_INSTANCE_COUNT', '4'],
        ['SPIN_MAX_WAITING_REQUESTS', '0'],
      ],
    });
    await engine.untilWorkers(Math.min(2, availableParallelism()));
    // Whichever workers they come to: four have an instance, the fifth finds none.
    const held = await Promise.all(Array.from({ length: 4 }, () => begin(engine, '/stream/40/50')));
    for (let count = 0; count < 8; count++) assert.match(await other(engine, '/hello'), /^503 /);
    engine.process.signal('SIGTERM');
    const whole = Array.from({ length: 40 }, (_, index) => `chunk ${index}\n`).join('');
    for (const { body } of held) assert.equal(await body, whole);
    assert.equal((await engine.process.exited).exitCode, 0);
  });

  test('a memory that starts larger than an instance may be stops the start and names the limit', async (t) => {
    const engine = await EngineProcess.spawn();
    t.after(() => engine.signal('SIGKILL'));
    const nowhere = { stdout: { kind: 'null' }, stderr: { kind: 'null' }, memoryLimit: 65_536 } as const;
    await assert.rejects(engine.claim(claimOf(prepared, '/nonexistent', nowhere)), {
      code: 'invalid-component',
      message: `component "rust" cannot be started: its memory starts larger than an instance may be: 65536 bytes (the container's memory limit)`,
    });
  });
});

/** One GET on a connection of its own: `<status> <body>`. */
async function other({ port }: TestEngine, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, path, agent: false }, async (response) =>
      resolve(`${response.statusCode} ${await text(response)}`),
    );
    request.on('error', reject);
  });
}

/** The same, resolved with the first byte; the body is in its hands. */
async function begin({ port }: TestEngine, path: string): Promise<{ readonly body: Promise<string> }> {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, path, agent: false }, (response) =>
      resolve({ body: text(response) }),
    );
    request.on('error', reject);
  });
}

function neverEnding(): ReadableStream {
  return new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('x')) });
}
