import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { rawHttp, textOf } from './raw-http.ts';

async function serve(t: TestContext, listener: RequestListener): Promise<number> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

test('a body is counted whole, in either framing', async (t) => {
  const port = await serve(t, (request: IncomingMessage, response: ServerResponse) => {
    if (request.url === '/whole') response.setHeader('content-length', 5);
    // Node puts what is written at once into one chunk.
    response.write('he', () => response.end('llo'));
  });
  const whole = await rawHttp({ port, path: '/whole' });
  assert.deepEqual([whole.status, whole.bodyBytes, textOf(whole)], [200, 5, 'hello']);
  const chunked = await rawHttp({ port, path: '/chunked' });
  assert.equal(chunked.bodyBytes, '2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n'.length);
  assert.equal(textOf(chunked), 'hello');
});

test('a body is sent to its last byte', async (t) => {
  const port = await serve(t, (request, response) => {
    let total = 0;
    request.on('data', (bytes: Buffer) => {
      total += bytes.length;
    });
    request.on('end', () => response.end(String(total)));
  });
  assert.equal(textOf(await rawHttp({ port, path: '/', bodyBytes: 1_000_003 })), '1000003');
});

test('a connection without an answer, and one without an end, are failures', async (t) => {
  const port = await serve(t, (request, response) => {
    if (request.url === '/cut') request.socket.end();
    else response.write('so far');
  });
  await assert.rejects(rawHttp({ port, path: '/cut' }), /without an answer/);
  await assert.rejects(
    rawHttp({ port, path: '/slow', timeoutMs: 50 }),
    /no whole answer to "\/slow" within 50 ms/,
  );
});
