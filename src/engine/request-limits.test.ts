import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PreparedApp } from './prepared-app.ts';
import { fixtures, prepareApp, TestEngine, temporaryFolder } from './test-engine.ts';

const undo: (() => unknown)[] = [];
const suite = { after: (step: () => unknown): void => void undo.unshift(step) };

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

  after(async () => {
    for (const step of undo) await step();
  });

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
    const second = fetch(`${engine.base}/hello`);
    const refused: Response[] = [];
    while (refused.length < 5) {
      const answer = await fetch(`${engine.base}/hello`, { signal: AbortSignal.timeout(5_000) });
      if (answer.status === 503) refused.push(answer);
    }
    for (const answer of refused) assert.equal(answer.headers.get('retry-after'), '1');
    await first.body?.cancel();
    assert.equal((await second).status, 200);
    const log = await engine.stderr();
    assert.equal(log.split('SPIN_MAX_WAITING_REQUESTS').length, 2, log);
  });
});

function neverEnding(): ReadableStream {
  return new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('x')) });
}
