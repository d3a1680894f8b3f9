import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { test } from 'node:test';
import type { HttpExchange } from '../../host/http-exchange.ts';
import { answer, appWith, fieldsOf, http2Request, RawClient, serve } from './test-trigger.ts';

test('HTTP/2 with prior knowledge: head, bodies and trailers both ways', async (t) => {
  let seen: HttpExchange | undefined;
  const { port } = await serve(t, async (_component, exchange) => {
    seen = exchange;
    let body = '';
    for await (const chunk of exchange.body) body += String(chunk);
    exchange.response.start(201, [['x-a', Buffer.from('1')]]);
    exchange.response.write(Buffer.from(body.toUpperCase()));
    exchange.response.end([['x-sum', Buffer.from('4')]]);
  });
  const got = await http2Request(
    port,
    { ':method': 'POST', ':path': '/p?q', ':authority': 'example.com', 'spin-full-url': 'x', 'x-in': 'y' },
    Buffer.from('body'),
  );
  assert.deepEqual([got.status, got.headers['x-a'], got.body], [201, '1', 'BODY']);
  assert.equal(new Map(Object.entries(got.trailers)).get('x-sum'), '4');
  assert.ok(seen);
  assert.deepEqual([seen.method, seen.authority, seen.pathWithQuery], ['POST', 'example.com', '/p?q']);
  const fields = fieldsOf(seen).filter(([name]) => name === 'spin-full-url' || name === 'x-in');
  assert.deepEqual(fields, [
    ['x-in', 'y'],
    ['spin-full-url', 'http://example.com/p?q'],
  ]);
});

test('HTTP/2 answers without a body: HEAD, 204, 304, 404, 500, well-known', async (t) => {
  const { port } = await serve(
    t,
    async (_component, exchange) => {
      const status = Number(exchange.pathWithQuery.slice(1));
      if (status === 500) throw new Error('trap');
      answer(exchange, status, exchange.method === 'HEAD' ? 'body' : '');
    },
    appWith([['/200'], ['/204'], ['/304'], ['/500']]),
  );
  for (const [method, path, status, length] of [
    ['HEAD', '/200', 200, '4'],
    ['GET', '/204', 204, undefined],
    ['GET', '/304', 304, undefined],
    ['GET', '/404', 404, '0'],
    ['GET', '/500', 500, '0'],
    ['HEAD', '/.well-known/spin/health', 200, '2'],
  ] as const) {
    const got = await http2Request(port, { ':method': method, ':path': path });
    assert.deepEqual(
      [got.status, got.body, got.headers['content-length']],
      [status, '', length],
      `${method} ${path}`,
    );
  }
});

test('a field that HTTP/2 wants only once may be there twice without harm to the server', async (t) => {
  const { port } = await serve(t, async (_component, exchange) =>
    answer(exchange, 200, 'ok', [
      ['content-type', 'a/b'],
      ['content-type', 'c/d'],
      ['set-cookie', 'a=1'],
      ['set-cookie', 'b=2'],
      ['__proto__', 'x'],
    ]),
  );
  const got = await http2Request(port, { ':path': '/' });
  assert.equal(got.status, 200);
  assert.deepEqual(got.headers['set-cookie'], ['a=1', 'b=2']);
  assert.equal((await http2Request(port, { ':path': '/' })).status, 200);
});

test('a status that HTTP/2 cannot carry is answered with 500', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(700, []);
    exchange.response.end();
  });
  assert.equal((await http2Request(port, { ':path': '/' })).status, 500);
});

test('a host field other than the authority is 400', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200));
  const got = await http2Request(port, { ':path': '/', ':authority': 'a', host: 'b' });
  assert.equal(got.status, 400);
});

test('aborting resets the stream and leaves the others of the connection alone', async (t) => {
  const gate = Promise.withResolvers<void>();
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(200, []);
    exchange.response.write(Buffer.from('part'));
    await gate.promise;
    if (exchange.pathWithQuery === '/cut') exchange.response.abort();
    else exchange.response.end();
  });
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const run = (path: string): Promise<string> =>
    new Promise((resolve) => {
      const stream = session.request({ ':path': path });
      let failed = '';
      stream.on('error', (error: NodeJS.ErrnoException) => (failed = error.code ?? 'error'));
      stream.on('close', () => resolve(failed));
      stream.once('data', () => {});
      stream.resume();
    });
  const [cut, whole] = [run('/cut'), run('/whole')];
  gate.resolve();
  assert.equal(await cut, 'ERR_HTTP2_STREAM_ERROR');
  assert.equal(await whole, '');
  session.destroy();
});

test('a client that resets its stream aborts the exchange, and the sink takes the rest', async (t) => {
  const outcome = Promise.withResolvers<[number, boolean]>();
  const { port } = await serve(t, async (_component, exchange) => {
    const { response, signal } = exchange;
    response.start(200, []);
    response.write(Buffer.alloc(128 * 1024));
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    response.write(Buffer.alloc(1024));
    outcome.resolve([response.capacity(), response.isFlushed()]);
    response.end();
  });
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = session.request({ ':path': '/' });
  stream.on('error', () => {});
  stream.once('response', () => stream.close(8));
  const [capacity, flushed] = await outcome.promise;
  assert.ok(capacity > 0);
  assert.equal(flushed, true);
  session.destroy();
});

test('streams above the limit are refused until others end', async (t) => {
  const gate = Promise.withResolvers<void>();
  let inFlight = 0;
  let most = 0;
  const { port } = await serve(
    t,
    async (_component, exchange) => {
      inFlight += 1;
      most = Math.max(most, inFlight);
      if (inFlight === 2) setImmediate(() => gate.resolve());
      await gate.promise;
      inFlight -= 1;
      answer(exchange, 200);
    },
    undefined,
    { maxConcurrentStreams: 2 },
  );
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  await new Promise<void>((resolve) => session.once('remoteSettings', () => resolve()));
  const statuses = await Promise.all(
    Array.from(
      { length: 6 },
      () =>
        new Promise<unknown>((resolve, reject) => {
          const stream = session.request({ ':path': '/' });
          stream.on('response', (fields) => resolve(fields[':status']));
          stream.on('error', reject);
          stream.resume();
        }),
    ),
  );
  session.destroy();
  assert.deepEqual(statuses, [200, 200, 200, 200, 200, 200]);
  assert.ok(most <= 2);
});

test('an HTTP/2 connection without a request is closed after its time', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200), undefined, {
    keepAliveTimeoutMs: 30,
  });
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  await new Promise<void>((resolve) => session.once('close', () => resolve()));
});

test('a guest that takes its time keeps its HTTP/2 connection', async (t) => {
  const { port } = await serve(
    t,
    async (_component, exchange) => {
      await new Promise((resolve) => setTimeout(resolve, 150));
      answer(exchange, 200, 'late');
    },
    undefined,
    { keepAliveTimeoutMs: 30 },
  );
  assert.equal((await http2Request(port, { ':path': '/' })).body, 'late');
});

test('bytes that are no HTTP/2 after the preface end the connection and nothing else', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200, 'ok'));
  const client = await RawClient.open(port);
  client.send(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${'\xff'.repeat(64)}`);
  client.socket.once('end', () => client.socket.end());
  await client.closed;
  assert.equal((await http2Request(port, { ':path': '/' })).body, 'ok');
});
