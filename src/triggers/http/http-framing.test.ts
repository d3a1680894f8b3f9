import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, RawClient, rawExchange, serve } from './test-trigger.ts';

/** Requests that two parsers could read in two ways: refused, nothing of them served, the connection closed. */
const ambiguous: readonly (readonly [name: string, text: string])[] = [
  [
    'both lengths',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  [
    'both lengths, reversed',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n',
  ],
  [
    'two lengths that differ',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
  ],
  [
    'two lengths that agree',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello',
  ],
  ['a list of lengths', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello'],
  ['a signed length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello'],
  ['a negative length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello'],
  [
    'a length beyond all numbers',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nhello',
  ],
  ['a coding that is not chunked', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello'],
  ['chunked not last', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n'],
  ['a disguised coding', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
  ['a space before the colon', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n'],
  ['a folded line', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Y: 2\r\n\r\n'],
  ['a bare carriage return', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n'],
  ['a bare line feed after a field', 'GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n'],
  ['a NUL in a value', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\x00\r\n\r\n'],
  ['a NUL in the target', 'GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a field without a colon', 'GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n'],
  ['a field without a name', 'GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n'],
  ['two hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
  ['two equal hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n'],
  ['a host other than the target', 'GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['no host', 'GET / HTTP/1.1\r\n\r\n'],
  ['an empty host', 'GET / HTTP/1.1\r\nHost:\r\n\r\n'],
  ['a host with a path', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n'],
  ['a bad chunk size', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n'],
  ['HTTP/1.2', 'GET / HTTP/1.2\r\nHost: a\r\n\r\n'],
  ['HTTP/0.9', 'GET /\r\n\r\n'],
  ['another protocol', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
];

for (const [name, text] of ambiguous) {
  test(`a request with ${name} is answered with 400 and the connection closed`, async (t) => {
    const served: string[] = [];
    const { port } = await serve(t, async (_component, exchange) => {
      served.push(exchange.pathWithQuery);
      for await (const _chunk of exchange.body);
      answer(exchange, 200, 'served');
    });
    const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
    const received = await rawExchange(port, text + smuggled);
    assert.match(received, /^HTTP\/1\.1 400 /, received);
    assert.ok(!received.includes('served'));
    assert.ok(!served.includes('/smuggled'));
  });
}

test('requests that were pipelined are answered in order', async (t) => {
  const gates = new Map([
    ['/1', Promise.withResolvers<void>()],
    ['/2', Promise.withResolvers<void>()],
  ]);
  const { port } = await serve(t, async (_component, exchange) => {
    if (exchange.pathWithQuery === '/2') gates.get('/1')?.resolve();
    await gates.get(exchange.pathWithQuery)?.promise;
    answer(exchange, 200, `<${exchange.pathWithQuery}>`);
    gates.get('/2')?.resolve();
  });
  const client = await RawClient.open(port);
  client.send('GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  const received = await client.until((text) => text.includes('</2>'));
  assert.ok(received.indexOf('</1>') < received.indexOf('</2>'));
});

test('of a pipeline the part before the malformed request is served', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200, 'served'));
  const received = await rawExchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\nNOT HTTP\r\n\r\n');
  assert.match(received, /^HTTP\/1\.1 200 /);
  assert.equal(received.split('served').length, 2);
});

test('a first packet of one byte is no obstacle', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200, exchange.method));
  const client = await RawClient.open(port);
  client.socket.setNoDelay(true);
  for (const letter of 'PRIVATE / HTTP/1.1'.slice(0, 3)) {
    client.send(letter);
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.socket.destroy();
  const other = await RawClient.open(port);
  other.send('P');
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  other.send('OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n');
  assert.match(await other.until((text) => text.endsWith('POST')), /^HTTP\/1\.1 200/);
  other.socket.destroy();
});

test('a head of the size limit is served, one byte more is 431', async (t) => {
  const maxHeaderBytes = 4096;
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200), undefined, {
    maxHeaderBytes,
  });
  const head = (size: number): string => {
    const rest = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: \r\n\r\n';
    return rest.replace('X: ', `X: ${'x'.repeat(size - rest.length)}`);
  };
  assert.match(await rawExchange(port, head(maxHeaderBytes - 64)), /^HTTP\/1\.1 200 /);
  assert.match(await rawExchange(port, head(maxHeaderBytes + 64)), /^HTTP\/1\.1 431 /);
});

test('as many fields as the limit are served, one more is 431 and nothing is dropped silently', async (t) => {
  const maxHeaderFields = 10;
  let fields = 0;
  const { port } = await serve(
    t,
    async (_component, exchange) => {
      fields = exchange.headers.filter(([name]) => name.startsWith('x-')).length;
      answer(exchange, 200);
    },
    undefined,
    { maxHeaderFields },
  );
  const head = (count: number): string => {
    const extra = Array.from({ length: count - 2 }, (_, index) => `x-${index}: 1\r\n`).join('');
    return `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${extra}\r\n`;
  };
  assert.match(await rawExchange(port, head(maxHeaderFields)), /^HTTP\/1\.1 200 /);
  assert.equal(fields, maxHeaderFields - 2);
  assert.match(await rawExchange(port, head(maxHeaderFields + 1)), /^HTTP\/1\.1 431 /);
});

const impatient = { headTimeoutMs: 50, checkIntervalMs: 10, keepAliveTimeoutMs: 50 };

test('a client that sends nothing is cut off', async (t) => {
  const { port } = await serve(t, () => Promise.reject(new Error('called')), undefined, impatient);
  assert.equal(await rawExchange(port, ''), '');
});

test('a client that trickles its head is answered with 408 and cut off', async (t) => {
  const { port } = await serve(t, () => Promise.reject(new Error('called')), undefined, impatient);
  const client = await RawClient.open(port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n');
  const trickle = setInterval(() => client.send('x: y\r\n'), 5);
  client.socket.once('end', () => client.socket.end());
  await client.closed;
  clearInterval(trickle);
  assert.match(client.received, /^HTTP\/1\.1 408 /);
});

test('a client that trickles the HTTP/2 preface is cut off', async (t) => {
  const { port } = await serve(t, () => Promise.reject(new Error('called')), undefined, impatient);
  const received = await rawExchange(port, 'PRI');
  assert.ok(!received.includes('HTTP/1.1 200'));
});

test('a slow body is no reason to cut a client off', async (t) => {
  const { port } = await serve(
    t,
    async (_component, exchange) => {
      let body = '';
      for await (const chunk of exchange.body) body += String(chunk);
      answer(exchange, 200, body);
    },
    undefined,
    impatient,
  );
  const client = await RawClient.open(port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20\r\n\r\n');
  for (let sent = 0; sent < 20; sent++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    client.send('x');
  }
  assert.ok((await client.until((text) => text.endsWith('x'.repeat(20)))).startsWith('HTTP/1.1 200'));
});

test('Expect: 100-continue is answered before the body is sent', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => {
    let body = '';
    for await (const chunk of exchange.body) body += String(chunk);
    answer(exchange, 200, body);
  });
  const client = await RawClient.open(port);
  client.send(
    'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n',
  );
  await client.until((text) => text === 'HTTP/1.1 100 Continue\r\n\r\n');
  client.send('body');
  await client.until((text) => text.endsWith('body'));
});

test('a request to upgrade is served as the plain request it also is', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200, 'plain'));
  for (const upgrade of ['websocket', 'h2c']) {
    const received = await rawExchange(
      port,
      `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
    );
    assert.match(received, /^HTTP\/1\.1 200 /);
    assert.ok(received.endsWith('plain'));
  }
});

test('HTTP/1.0 is served and its connection closed', async (t) => {
  const { port } = await serve(t, async (_component, exchange) => answer(exchange, 200, 'old'));
  const received = await rawExchange(port, 'GET / HTTP/1.0\r\nHost: a\r\n\r\n');
  assert.match(received, /^HTTP\/1\.1 200 /);
  assert.ok(received.endsWith('\r\n\r\nold'));
});

test('an absolute target is served with its path', async (t) => {
  const { port } = await serve(t, async (_component, exchange) =>
    answer(exchange, 200, `${exchange.authority} ${exchange.pathWithQuery}`),
  );
  const received = await rawExchange(
    port,
    'GET http://a:1/x?y HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n',
  );
  assert.ok(received.endsWith('a:1 /x?y'));
});
