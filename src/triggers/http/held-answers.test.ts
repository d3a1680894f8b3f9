import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { AnswerGroup } from './answer-group.ts';
import type { Invoke } from './http-trigger.ts';
import type { HttpServerLimits } from './server-limits.ts';
import { answer, RawClient, serve } from './test-trigger.ts';

const get = (path: string, version = '1.1', fields = ''): string =>
  `GET ${path} HTTP/${version}\r\nHost: a\r\n${fields}\r\n`;

/** A trigger that answers each request with its path in brackets, and how many answers waited after each. */
async function serveHeld(
  t: TestContext,
  { invoke, limits = {} }: { readonly invoke?: Invoke; readonly limits?: Partial<HttpServerLimits> } = {},
) {
  const waiting: number[] = [];
  const answerAll: Invoke = async (component, exchange) => {
    if (invoke === undefined) answer(exchange, 200, `<${exchange.pathWithQuery}>`);
    else await invoke(component, exchange);
    waiting.push(trigger.answers.waiting);
  };
  const trigger = await serve(t, answerAll, undefined, limits);
  await expectCompany(trigger.answers);
  return { ...trigger, waiting };
}

/** Two answers in one turn: those of the next one wait for each other. */
async function expectCompany(answers: AnswerGroup): Promise<void> {
  for (let count = 0; count < 2; count++) {
    const nothing = { send: () => {}, endOfTurn: () => {} };
    answers.begin(nothing);
    answers.complete(nothing);
  }
  await turn();
}

/** Sends one text on a connection of its own, gives what comes until the server closes it. */
async function exchange(port: number, text: string): Promise<string> {
  const client = await RawClient.open(port);
  client.socket.once('end', () => client.socket.end());
  client.send(text);
  await client.closed;
  return client.received;
}

/** Status lines and bodies in brackets, in order. */
function outline(received: string): string[] {
  return received.match(/HTTP\/1\.1 \d+|<[^>]+>/g) ?? [];
}

describe('a whole answer that waits for others of its turn', () => {
  for (const [name, rest] of [
    ['bytes that are no request', 'NOT HTTP\r\n\r\n'],
    ['a head that is too long', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(5000)}\r\n\r\n`],
    ['CONNECT', 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'],
    ['CONNECT with a body', 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 9\r\n\r\n'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ] as const)
    test(`is sent before its connection is cut for ${name}`, async (t) => {
      const { port, waiting } = await serveHeld(t, { limits: { maxHeaderBytes: 4096 } });
      const received = outline(await exchange(port, get('/first') + rest));
      assert.deepEqual(received.slice(0, 2), ['HTTP/1.1 200', '</first>']);
      assert.ok(!received.includes('HTTP/1.1 400'));
      assert.equal(waiting[0], 1);
    });

  test('is sent before Node hears that the client sends no more', async (t) => {
    const { port, waiting } = await serveHeld(t, {
      // At the end of a turn: that the client ends is read before the end of the next one.
      invoke: async (_component, incoming) => {
        await turn();
        answer(incoming, 200, '<late>');
      },
    });
    const client = await RawClient.open(port);
    client.socket.end(get('/'));
    await client.closed;
    assert.deepEqual(outline(client.received), ['HTTP/1.1 200', '<late>']);
    assert.deepEqual(waiting, [1]);
  });

  test('is sent when its client has asked for more meanwhile, whose answers wait for nobody', async (t) => {
    const { port, waiting } = await serveHeld(t);
    const client = await RawClient.open(port);
    client.socket.end(get('/1') + get('/2') + get('/3'));
    await client.closed;
    const expected = ['/1', '/2', '/3'].flatMap((path) => ['HTTP/1.1 200', `<${path}>`]);
    assert.deepEqual(outline(client.received), expected);
    assert.deepEqual(waiting, [1, 0, 0]);
  });

  test('comes in the order of the requests, whichever is complete first', async (t) => {
    const gate = Promise.withResolvers<void>();
    const { port, waiting } = await serveHeld(t, {
      invoke: async (_component, incoming) => {
        if (incoming.pathWithQuery === '/0') await gate.promise;
        answer(incoming, 200, `<${incoming.pathWithQuery}>`);
        if (incoming.pathWithQuery === '/19') gate.resolve();
      },
    });
    const paths = Array.from({ length: 20 }, (_, index) => `/${index}`);
    const close = get('/end', '1.1', 'Connection: close\r\n');
    const received = await exchange(port, paths.map((path) => get(path)).join('') + close);
    const expected = [...paths, '/end'].flatMap((path) => ['HTTP/1.1 200', `<${path}>`]);
    assert.deepEqual(outline(received), expected);
    assert.ok(waiting.every((count) => count === 0));
  });

  for (const [method, status, head] of [
    ['GET', 204, 'HTTP/1.1 204 No Content'],
    ['GET', 304, 'HTTP/1.1 304 Not Modified'],
    ['HEAD', 200, 'HTTP/1.1 200 OK\r\ncontent-length: 6'],
    ['GET', 200, 'HTTP/1.1 200 OK\r\ncontent-length: 6'],
  ] as const)
    test(`keeps its form and ends its connection where the client asked for that: ${method}, ${status}`, async (t) => {
      const { port, waiting } = await serveHeld(t, {
        invoke: async (_component, incoming) => answer(incoming, status, status === 200 ? '<body>' : ''),
      });
      const received = await exchange(port, get('/', '1.1', 'Connection: close\r\n').replace('GET', method));
      const body = method === 'GET' && status === 200 ? '<body>' : '';
      assert.equal(received.replace(/Date: [^\r]+\r\n/, ''), `${head}\r\n\r\n${body}`);
      assert.deepEqual(waiting, [1]);
    });

  test('is sent to an HTTP/1.0 client before its connection is closed', async (t) => {
    const { port, waiting } = await serveHeld(t);
    assert.deepEqual(outline(await exchange(port, get('/old', '1.0'))), ['HTTP/1.1 200', '</old>']);
    assert.deepEqual(waiting, [1]);
  });

  test('is not lost when its server is drained in the same turn, and says that the connection ends', async (t) => {
    let draining: Promise<void> | undefined;
    const served = await serveHeld(t, {
      limits: { drainIdleMs: 0, drainAcceptMs: 0 },
      invoke: async (_component, incoming) => {
        answer(incoming, 200, '<drained>');
        draining = served.server.drain();
      },
    });
    const received = await exchange(served.port, get('/'));
    assert.deepEqual(outline(received), ['HTTP/1.1 200', '<drained>']);
    assert.match(received, /\r\nconnection: close\r\n/i);
    assert.deepEqual(served.waiting, [1]);
    await draining;
  });

  test('is not lost when its server is stopped in the same turn', async (t) => {
    const served = await serveHeld(t, {
      invoke: async (_component, incoming) => {
        answer(incoming, 200, '<stopped>');
        assert.equal(served.answers.waiting, 1);
        served.server.destroy();
      },
    });
    assert.deepEqual(outline(await exchange(served.port, get('/'))), ['HTTP/1.1 200', '<stopped>']);
  });

  test('of a client that has gone meanwhile is dropped, the others are sent', async (t) => {
    const gone = Promise.withResolvers<void>();
    const { port } = await serveHeld(t, {
      invoke: async (_component, incoming) => {
        incoming.response.start(200, []);
        if (incoming.pathWithQuery === '/gone') {
          incoming.signal.addEventListener('abort', gone.resolve);
          await gone.promise;
        }
        incoming.response.write(Buffer.from(`<${incoming.pathWithQuery}>`));
        incoming.response.end();
      },
    });
    const client = await RawClient.open(port);
    client.send(get('/gone'));
    client.socket.destroy();
    await gone.promise;
    assert.deepEqual(outline(await exchange(port, get('/here', '1.0'))), ['HTTP/1.1 200', '</here>']);
  });
});

test('an answer that is given up behind another one on its connection cuts it when its turn comes', async (t) => {
  const { port } = await serve(t, async (_component, incoming) => {
    if (incoming.pathWithQuery === '/whole') answer(incoming, 200, '<whole>');
    else {
      incoming.response.start(200, []);
      incoming.response.abort();
    }
  });
  const received = outline(await exchange(port, get('/whole') + get('/cut') + get('/whole')));
  assert.deepEqual(received, ['HTTP/1.1 200', '<whole>']);
});

describe('bytes that cannot be read as a request', () => {
  const chunkExtension = `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;${'x'.repeat(20_000)}\r\n`;
  for (const [status, text] of [
    ['400 Bad Request', 'NOT HTTP\r\n\r\n'],
    ['413 Payload Too Large', chunkExtension],
    ['431 Request Header Fields Too Large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(5000)}\r\n\r\n`],
  ] as const)
    test(`are answered with ${status} as Node does`, async (t) => {
      const { port } = await serve(t, () => new Promise(() => {}), undefined, { maxHeaderBytes: 4096 });
      assert.equal(await exchange(port, text), `HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    });

  test('after a head that was sent cut the connection without a word', async (t) => {
    const { port } = await serve(t, async (_component, incoming) => {
      incoming.response.start(200, []);
      await new Promise(() => {});
    });
    const client = await RawClient.open(port);
    client.socket.once('end', () => client.socket.end());
    client.send(get('/'));
    await client.until((text) => text.includes('\r\n\r\n'));
    const head = client.received;
    client.send('NOT HTTP\r\n\r\n');
    await client.closed;
    assert.equal(client.received, head);
  });
});
