import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HttpExchange } from '../../host/http-exchange.ts';
import { answer, appWith, fieldsOf, RawClient, rawExchange, serve } from './test-trigger.ts';

function request(path: string, fields: readonly string[] = [], method = 'GET'): string {
  return [`${method} ${path} HTTP/1.1`, 'Host: example.com', 'Connection: close', ...fields, '', ''].join(
    '\r\n',
  );
}

/** Status, fields and body of a response text. */
function parse(text: string): { status: number; fields: Map<string, string>; body: string } {
  const end = text.indexOf('\r\n\r\n');
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  return {
    status: Number(first.split(' ')[1]),
    fields: new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    ),
    body: text.slice(end + 4),
  };
}

/** Field names in lower case, sorted. */
function names(fields: ReadonlyMap<string, string>): string[] {
  return [...fields.keys()].map((name) => name.toLowerCase()).sort();
}

test('the guest gets each injected header once, and none that the client made up', async (t) => {
  let seen: HttpExchange | undefined;
  const app = appWith([['/base/:path_segment/:path_end/...']]);
  const { port } = await serve(
    t,
    async (_component, exchange) => {
      seen = exchange;
      answer(exchange, 200);
    },
    app,
  );
  const fields = [
    'Spin-Full-URL: http://evil/',
    'spin-client-addr: 1.2.3.4:5',
    'SPIN-anything: x',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: keep-alive',
    'TE: trailers',
    'X-Twice: 1',
    'x-twice: 2',
  ];
  await rawExchange(port, request('/base/path/end/rest?key=value', fields));
  assert.ok(seen);
  const { method, scheme, authority, pathWithQuery } = seen;
  assert.deepEqual(
    [method, scheme, authority, pathWithQuery],
    ['GET', 'http', 'example.com', '/base/path/end/rest?key=value'],
  );
  const found = fieldsOf(seen);
  const client = found.find(([name]) => name === 'spin-client-addr')?.[1] ?? '';
  assert.match(client, /^127\.0\.0\.1:\d+$/);
  assert.deepEqual(found, [
    ['te', 'trailers'],
    ['x-twice', '1'],
    ['x-twice', '2'],
    ['spin-path-info', '/rest'],
    ['spin-full-url', 'http://example.com/base/path/end/rest?key=value'],
    ['spin-matched-route', '/base/:path_segment/:path_end/...'],
    ['spin-base-path', '/'],
    ['spin-raw-component-route', '/base/:path_segment/:path_end/...'],
    ['spin-component-route', '/base/:path_segment/:path_end'],
    ['spin-client-addr', client],
    ['spin-path-match-path-segment', 'path'],
    ['spin-path-match-path-end', 'end'],
  ]);
});

test('fields that the Connection header names are hop-by-hop and hidden', async (t) => {
  let seen: [string, string][] = [];
  const { port } = await serve(t, async (_component, exchange) => {
    seen = fieldsOf(exchange);
    answer(exchange, 200);
  });
  await rawExchange(
    port,
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Private\r\nX-Private: 1\r\nX-Open: 2\r\n\r\n',
  );
  const own = seen.filter(([name]) => !name.startsWith('spin-'));
  assert.deepEqual(own, [['x-open', '2']]);
});

test('the host answers the well-known paths itself, before routing', async (t) => {
  const { port } = await serve(t, () => Promise.reject(new Error('the guest was called')));
  const health = parse(await rawExchange(port, request('/.well-known/spin/health?x')));
  assert.deepEqual([health.status, health.body, health.fields.has('content-type')], [200, 'OK', false]);
  const info = parse(await rawExchange(port, request('/.well-known/spin/info')));
  assert.equal(info.fields.get('content-type'), 'application/json');
  assert.deepEqual(JSON.parse(info.body), { name: 'sample', version: '1.2.3' });
  const other = parse(await rawExchange(port, request('/.well-known/spin/other')));
  assert.deepEqual([other.status, other.body, other.fields.get('content-length')], [404, '', '0']);
  const head = parse(await rawExchange(port, request('/.well-known/spin/health', [], 'HEAD')));
  assert.deepEqual([head.status, head.body, head.fields.get('content-length')], [200, '', '2']);
});

test('no route is 404 and a guest that fails is 500, both with an empty body', async (t) => {
  const { port } = await serve(t, () => Promise.reject(new Error('trap')), appWith([['/a']]));
  for (const [path, status] of [
    ['/b', 404],
    ['/a', 500],
  ] as const) {
    const { fields, ...rest } = parse(await rawExchange(port, request(path)));
    assert.deepEqual(rest, { status, body: '' });
    assert.equal(fields.get('content-length'), '0');
  }
});

test('an invoke that throws at once is a 500 too', async (t) => {
  const { port } = await serve(t, () => {
    throw new Error('thrown, not rejected');
  });
  assert.equal(parse(await rawExchange(port, request('/'))).status, 500);
});

test('static responses carry their status, fields and body', async (t) => {
  const headers = [
    ['x-a', '1'],
    ['content-type', 'text/plain'],
  ] as const;
  const app = appWith([
    ['/s', { kind: 'static', status: 418, headers, body: 'täa' }],
    ['/none', { kind: 'static', status: 204, headers: [], body: '' }],
  ]);
  const { port } = await serve(t, () => Promise.reject(new Error('called')), app);
  const { status, fields, body } = parse(await rawExchange(port, request('/s')));
  assert.deepEqual([status, fields.get('x-a'), fields.get('content-length')], [418, '1', '4']);
  assert.equal(Buffer.from(body, 'latin1').toString(), 'täa');
  const none = parse(await rawExchange(port, request('/none')));
  assert.deepEqual([none.status, none.body, none.fields.has('content-length')], [204, '', false]);
});

test('a static response cannot frame the message itself', async (t) => {
  const headers = [
    ['Content-Length', '5000'],
    ['Transfer-Encoding', 'chunked'],
    ['Connection', 'upgrade'],
    ['x-a', '1'],
  ] as const;
  const app = appWith([['/s', { kind: 'static', status: 200, headers, body: 'abc' }]]);
  const { port } = await serve(t, () => Promise.reject(new Error('called')), app);
  const { status, fields, body } = parse(await rawExchange(port, request('/s')));
  assert.deepEqual([status, body], [200, 'abc']);
  assert.deepEqual(names(fields), ['content-length', 'date', 'x-a']);
});

test('nothing but date, content-length and transfer-encoding is added to a response', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    if (exchange.pathWithQuery === '/slow') {
      exchange.response.start(200, [['x-a', Buffer.from('1')]]);
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      exchange.response.write(Buffer.from('late'));
      exchange.response.end();
    } else answer(exchange, 200, 'hello', [['x-a', '1']]);
  });
  const client = await RawClient.open(port);
  const plain = 'GET /quick HTTP/1.1\r\nHost: a\r\n\r\n';
  client.send(plain);
  const quick = parse(await client.until((text) => text.endsWith('hello')));
  assert.deepEqual(names(quick.fields), ['content-length', 'date', 'x-a']);
  assert.equal(quick.fields.get('content-length'), '5');
  client.received = '';
  client.send(plain.replace('quick', 'slow'));
  const slow = parse(await client.until((text) => text.endsWith('0\r\n\r\n')));
  assert.deepEqual(names(slow.fields), ['date', 'transfer-encoding', 'x-a']);
  client.socket.destroy();
});

test('a slow response is streamed: what is written arrives before the guest ends', async (t) => {
  const gate = Promise.withResolvers<void>();
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(200, []);
    exchange.response.write(Buffer.from('first'));
    await gate.promise;
    exchange.response.write(Buffer.from('second'));
    exchange.response.end();
  });
  const client = await RawClient.open(port);
  client.send(request('/'));
  await client.until((text) => text.endsWith('5\r\nfirst\r\n'));
  gate.resolve();
  await client.until((text) => text.endsWith('6\r\nsecond\r\n0\r\n\r\n'));
});

test('HEAD, 204 and 304 have no body and leave the connection in order', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    const status = Number(exchange.pathWithQuery.slice(1));
    answer(exchange, status, exchange.method === 'HEAD' ? 'body' : '');
  });
  const client = await RawClient.open(port);
  for (const [method, status] of [
    ['GET', 204],
    ['GET', 304],
    ['HEAD', 200],
  ] as const) {
    client.received = '';
    client.send(`${method} /${status} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const { fields, body } = parse(await client.until((text) => text.includes('\r\n\r\n')));
    assert.equal(body, '');
    assert.equal(fields.has('transfer-encoding'), false);
    assert.equal(fields.get('content-length'), method === 'HEAD' ? '4' : undefined);
  }
  client.socket.destroy();
});

test('a header value that is not UTF-8 is 500 and never reaches the guest', async (t) => {
  const { port } = await serve(t, () => Promise.reject(new Error('called')));
  assert.equal(parse(await rawExchange(port, request('/', ['x: \xff']))).status, 500);
});

test('a header value in UTF-8 reaches the guest byte by byte', async (t) => {
  let value: Uint8Array | undefined;
  const { port } = await serve(t, async (_component, exchange) => {
    value = exchange.headers.find(([name]) => name === 'x')?.[1];
    answer(exchange, 200);
  });
  await rawExchange(port, request('/', [`x: ${Buffer.from('ü€').toString('latin1')}`]));
  assert.equal(Buffer.from(value ?? []).toString(), 'ü€');
});

test('aborting after the start cuts the connection so that the client sees an incomplete body', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(200, []);
    exchange.response.write(Buffer.from('partial'));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    exchange.response.abort();
  });
  const text = await rawExchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.ok(text.includes('partial'));
  assert.ok(!text.endsWith('0\r\n\r\n'));
});

test('an invoke that rejects after the start cuts the connection', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(200, []);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    throw new Error('trap');
  });
  const text = await rawExchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.ok(!text.endsWith('0\r\n\r\n'));
});

test('a client that goes away aborts the signal of its exchange', async (t) => {
  const reasons = Promise.withResolvers<unknown>();
  const { port } = await serve(t, (_component, exchange) => {
    exchange.signal.addEventListener('abort', () => reasons.resolve(exchange.signal.reason));
    exchange.response.start(200, []);
    return new Promise(() => {});
  });
  const client = await RawClient.open(port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until((text) => text.includes('200'));
  client.socket.destroy();
  assert.match(String(await reasons.promise), /client closed the connection/);
});

test('after the client has gone the sink takes everything and never makes the guest wait', async (t) => {
  const outcome = Promise.withResolvers<[number, boolean]>();
  const { port } = await serve(t, async (_component, exchange) => {
    const { response, signal } = exchange;
    response.start(200, []);
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    response.write(Buffer.alloc(1024));
    const drained = new Promise<void>((resolve) => response.onDrain(resolve));
    outcome.resolve([response.capacity(), response.isFlushed()]);
    await drained;
    response.end();
  });
  const client = await RawClient.open(port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until((text) => text.includes('200'));
  client.socket.destroy();
  const [capacity, flushed] = await outcome.promise;
  assert.ok(capacity > 0);
  assert.equal(flushed, true);
});

test('a response that its client reads slowly fills up, and drains when the client reads on', async (t) => {
  let written = 0;
  const full = Promise.withResolvers<void>();
  const { port } = await serve(t, async (_component, exchange) => {
    const { response } = exchange;
    response.start(200, []);
    const total = 64 * 1024 * 1024;
    while (written < total) {
      const room = Math.min(response.capacity(), 256 * 1024, total - written);
      if (room === 0) {
        full.resolve();
        await new Promise<void>((resolve) => response.onDrain(resolve));
        continue;
      }
      response.write(Buffer.alloc(room, 0x61));
      written += room;
    }
    response.end();
  });
  const client = await RawClient.open(port);
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  await full.promise;
  assert.ok(written < 64 * 1024 * 1024);
  let received = 0;
  client.socket.removeAllListeners('data');
  client.socket.on('data', (text: string) => (received += text.length));
  client.socket.resume();
  client.socket.once('end', () => client.socket.end());
  await client.closed;
  assert.ok(received > 64 * 1024 * 1024);
});

test('large pieces of a response are freed when they are sent, and no sooner', async (t) => {
  const pieces: Buffer[] = [];
  const full = Promise.withResolvers<void>();
  const pieceBytes = 64 * 1024;
  const count = 256;
  const { port } = await serve(t, async (_component, exchange) => {
    const { response } = exchange;
    response.start(200, []);
    while (pieces.length < count) {
      if (response.capacity() < pieceBytes) {
        // What the kernel takes at once is on its way after this turn.
        await new Promise<void>((resolve) => setImmediate(resolve));
        if (response.capacity() >= pieceBytes) continue;
        full.resolve();
        await new Promise<void>((resolve) => response.onDrain(resolve));
        continue;
      }
      // A different one each, so that memory which is used again too soon shows.
      const piece = Buffer.alloc(pieceBytes, String.fromCharCode(0x21 + (pieces.length % 90)));
      response.write(piece);
      pieces.push(piece);
    }
    while (!response.isFlushed()) await new Promise<void>((resolve) => response.onDrain(resolve));
    response.end();
  });
  const client = await RawClient.open(port);
  client.socket.pause();
  client.send('GET / HTTP/1.0\r\nHost: a\r\n\r\n');
  await full.promise;
  const waiting = pieces.filter((piece) => piece.length > 0).length;
  assert.ok(waiting > 0 && waiting * pieceBytes <= 512 * 1024, `${waiting} pieces are held`);
  client.socket.resume();
  client.socket.once('end', () => client.socket.end());
  await client.closed;
  assert.equal(
    parse(client.received).body,
    Array.from({ length: count }, (_value, index) =>
      String.fromCharCode(0x21 + (index % 90)).repeat(pieceBytes),
    ).join(''),
  );
  assert.deepEqual(new Set(pieces.map((piece) => piece.length)), new Set([0]));
});

test('a request body is streamed and its trailers follow', async (t) => {
  const parts: string[] = [];
  let trailers: string[][] = [];
  const gate = Promise.withResolvers<void>();
  const { port } = await serve(t, async (_component, exchange) => {
    for await (const chunk of exchange.body) {
      parts.push(String(chunk));
      gate.resolve();
    }
    trailers = exchange
      .trailers()
      .map(([name, value]) => [name.toLowerCase(), Buffer.from(value).toString()]);
    answer(exchange, 200, 'ok');
  });
  const client = await RawClient.open(port);
  client.send(
    'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n',
  );
  await gate.promise;
  client.send('3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n');
  await client.until((text) => text.endsWith('ok'));
  assert.deepEqual([parts.join(''), trailers], ['onetwo', [['x-sum', '6']]]);
});

test('response trailers follow a chunked body, without those that would frame the message', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(200, []);
    exchange.response.write(Buffer.from('body'));
    exchange.response.end([
      ['x-sum', Buffer.from('1')],
      ['x-sum', Buffer.from('2')],
      ['content-length', Buffer.from('99')],
    ]);
  });
  const text = await rawExchange(port, request('/'));
  assert.ok(text.toLowerCase().endsWith('4\r\nbody\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n'), text);
});

for (const pace of ['at once', 'later'])
  test(`trailers that are announced and given ${pace} follow a chunked body; elsewhere neither is sent`, async (t) => {
    const { port } = await serve(t, async (_component, { method, pathWithQuery, response }) => {
      const length = pathWithQuery === '/length' ? [['content-length', Buffer.from('4')] as const] : [];
      response.start(pathWithQuery === '/304' ? 304 : 200, [['trailer', Buffer.from('x-sum')], ...length]);
      if (pace === 'later') await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      if (method === 'GET' && pathWithQuery !== '/304') response.write(Buffer.from('body'));
      response.end([['x-sum', Buffer.from('1')]]);
    });
    const chunked = parse(await rawExchange(port, request('/')));
    assert.equal(chunked.fields.get('trailer'), 'x-sum');
    assert.equal(chunked.body.toLowerCase(), '4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n');
    const old = parse(await rawExchange(port, request('/').replace('1.1', '1.0')));
    const counted = parse(await rawExchange(port, request('/length')));
    for (const { status, fields, body } of [old, counted])
      assert.deepEqual([status, fields.has('trailer'), body], [200, false, 'body']);
    const head = parse(await rawExchange(port, request('/', [], 'HEAD')));
    const unchanged = parse(await rawExchange(port, request('/304')));
    for (const [{ status, fields, body }, expected] of [
      [head, 200],
      [unchanged, 304],
    ] as const)
      assert.deepEqual([status, fields.has('trailer'), body], [expected, false, '']);
  });

test('trailers that are announced and do not come: the answer is whole without them', async (t) => {
  const { port } = await serve(t, async (_component, exchange) =>
    answer(exchange, 200, 'body', [['trailer', 'x-sum']]),
  );
  const { status, fields, body } = parse(await rawExchange(port, request('/')));
  assert.deepEqual([status, fields.has('trailer'), body], [200, false, 'body']);
});

test('a second start is refused', async (t) => {
  const failures: string[] = [];
  const { port } = await serve(t, async (_component, exchange) => {
    exchange.response.start(200, []);
    assert.throws(
      () => exchange.response.start(200, []),
      (error: Error) => failures.push(error.message) > 0,
    );
    exchange.response.end();
  });
  await rawExchange(port, request('/'));
  assert.equal(failures.length, 1);
});

for (const [name, status, fields] of [
  ['a name with a space', 200, [['a b', '1']]],
  ['a value with a line break', 200, [['a', '1\r\nx: 2']]],
  ['a status below 100', 99, []],
  ['a status above 999', 1000, []],
] as const) {
  test(`a response with ${name} is refused at the start and answered with 500`, async (t) => {
    const { port } = await serve(t, async (_component, exchange) => {
      exchange.response.start(
        status,
        fields.map(([field, value]) => [field, Buffer.from(value)]),
      );
      exchange.response.end();
    });
    assert.equal(parse(await rawExchange(port, request('/'))).status, 500);
  });
}
