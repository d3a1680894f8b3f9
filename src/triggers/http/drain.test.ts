import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { refuseNewConnections, socketPair } from '../../linux.ts';
import type { Invoke } from './http-trigger.ts';
import { descriptorOf } from './node-net.ts';
import { answer, RawClient, serve } from './test-trigger.ts';

/** What most guests here do. */
const answerOk: Invoke = async (_component, exchange) => answer(exchange, 200, 'ok');

const plain = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

/** `''` for a connection that was made, else the error. */
function connectOnce(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve('');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
}

test('draining without connections ends at once', async (t) => {
  const { server } = await serve(t, async () => {}, undefined, { drainIdleMs: 1_000_000 });
  await server.drain();
});

test('a request in flight finishes, says that the connection ends, and no new connection is taken', async (t) => {
  const gate = Promise.withResolvers<void>();
  const called = Promise.withResolvers<void>();
  const { port, server } = await serve(
    t,
    async (_component, exchange) => {
      called.resolve();
      await gate.promise;
      answer(exchange, 200, 'finished');
    },
    undefined,
    { drainIdleMs: 20 },
  );
  const client = await RawClient.open(port);
  client.socket.once('end', () => client.socket.end());
  client.send(plain);
  await called.promise;
  let drained = false;
  const draining = server.drain().then(() => (drained = true));
  for (let outcome = ''; outcome !== 'ECONNREFUSED'; ) outcome = await connectOnce(port);
  assert.equal(drained, false);
  gate.resolve();
  await client.closed;
  assert.match(client.received.toLowerCase(), /\r\nconnection: close\r\n/);
  assert.ok(client.received.endsWith('finished'));
  await draining;
});

test('an idle connection may send one more request, then it ends', async (t) => {
  const { port, server } = await serve(t, answerOk, undefined, {
    drainIdleMs: 10_000,
  });
  const client = await RawClient.open(port);
  client.socket.once('end', () => client.socket.end());
  client.send(plain);
  await client.until((text) => text.endsWith('ok'));
  const draining = server.drain();
  client.received = '';
  client.send(plain);
  await client.closed;
  assert.match(client.received.toLowerCase(), /^http\/1\.1 200 (.|\r|\n)*connection: close(.|\r|\n)*ok$/);
  await draining;
});

test('idle connections and those that never sent anything are closed when their time is up', async (t) => {
  const { port, server } = await serve(t, answerOk, undefined, {
    drainIdleMs: 20,
  });
  const [idle, silent] = [await RawClient.open(port), await RawClient.open(port)];
  for (const { socket } of [idle, silent]) socket.once('end', () => socket.end());
  idle.send(plain);
  await idle.until((text) => text.endsWith('ok'));
  await server.drain();
  await Promise.all([idle.closed, silent.closed]);
});

/** Keeps this thread from everything else. */
function compute(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test('what a client has sent before its time was up is answered, also when nobody had time to read it', async (t) => {
  const { port, server } = await serve(t, answerOk, undefined, { drainAcceptMs: 0, drainIdleMs: 100 });
  const client = await RawClient.open(port);
  client.socket.once('end', () => client.socket.end());
  const draining = server.drain();
  while ((await connectOnce(port)) !== 'ECONNREFUSED');
  client.send(plain);
  compute(200);
  await client.closed;
  assert.match(client.received, /^HTTP\/1\.1 200 (.|\r|\n)*ok$/);
  await draining;
});

test('all connections that were made in time are accepted, also when nobody had time for them', async (t) => {
  const { port, server } = await serve(t, answerOk, undefined, { drainAcceptMs: 20 });
  const opening = Array.from({ length: 20 }, () => RawClient.open(port));
  const draining = server.drain();
  compute(100);
  for (const client of await Promise.all(opening)) {
    client.socket.once('end', () => client.socket.end());
    client.send(plain);
    await client.closed;
    assert.match(client.received, /^HTTP\/1\.1 200 (.|\r|\n)*ok$/);
  }
  await draining;
});

test('a connection that was made while the door was closed is served', async (t) => {
  const { server } = await serve(t, answerOk);
  const elsewhere = createServer({ pauseOnConnect: true });
  t.after(() => elsewhere.close());
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  const taken = new Promise<Socket>((resolve) => elsewhere.once('connection', resolve));
  const client = await RawClient.open((elsewhere.address() as AddressInfo).port);
  client.socket.once('end', () => client.socket.end());
  const socket = await taken;
  // What it would have of a socket that has begun to refuse others in the middle of its handshake.
  refuseNewConnections(descriptorOf(socket) ?? assert.fail());
  server.serveConnection(socket);
  socket.resume();
  const draining = server.drain();
  client.send(plain);
  await client.closed;
  assert.match(client.received, /^HTTP\/1\.1 200 (.|\r|\n)*ok$/);
  await draining;
});

test('a connection that is none of the network is served to its end', async (t) => {
  const { server } = await serve(t, answerOk);
  const [here, there] = socketPair();
  const client = new Socket({ fd: here });
  server.serveConnection(new Socket({ fd: there, allowHalfOpen: true }));
  const draining = server.drain();
  client.write(plain);
  assert.match(await text(client), /^HTTP\/1\.1 200 (.|\r|\n)*ok$/);
  await draining;
});

test('an answer that its guest has finished reaches a client that reads slowly, whole', async (t) => {
  const size = 16 * 1024 * 1024;
  const finished = Promise.withResolvers<void>();
  const { port, server } = await serve(
    t,
    async (_component, { response }) => {
      response.start(200, [['content-length', Buffer.from(String(size))]]);
      response.write(Buffer.alloc(size, 'a'));
      response.end();
      finished.resolve();
    },
    undefined,
    { drainAcceptMs: 0, drainIdleMs: 0 },
  );
  const [client, idle] = [await RawClient.open(port), await RawClient.open(port)];
  client.socket.pause();
  client.socket.once('end', () => client.socket.end());
  client.send(plain);
  await finished.promise;
  const draining = server.drain();
  idle.send(plain);
  idle.socket.once('end', () => idle.socket.end());
  await idle.until((text) => text.length >= size);
  // Its connection is over, and with it there was one reason more to look for idle ones.
  await idle.closed;
  client.socket.resume();
  await client.closed;
  assert.equal(client.received.length - client.received.indexOf('\r\n\r\n') - 4, size);
  await draining;
});

test('where others go on serving, an idle connection keeps its time and is told to end with its next answer', async (t) => {
  const { port, server } = await serve(t, answerOk, undefined, { drainIdleMs: 0 });
  const client = await RawClient.open(port);
  client.socket.once('end', () => client.socket.end());
  client.send(plain);
  await client.until((text) => text.endsWith('ok'));
  const draining = server.drain({ keepIdle: true });
  for (let refused = 0; refused < 3; ) if ((await connectOnce(port)) === 'ECONNREFUSED') refused += 1;
  client.received = '';
  client.send(plain);
  await client.closed;
  assert.match(client.received.toLowerCase(), /^http\/1\.1 200 (.|\r|\n)*connection: close(.|\r|\n)*ok$/);
  await draining;
});

test('an HTTP/2 connection finishes its streams and is told to go away', async (t) => {
  const gate = Promise.withResolvers<void>();
  const called = Promise.withResolvers<void>();
  const { port, server } = await serve(
    t,
    async (_component, exchange) => {
      called.resolve();
      await gate.promise;
      answer(exchange, 200, 'finished');
    },
    undefined,
    { drainIdleMs: 20 },
  );
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const told = new Promise<number>((resolve) => session.once('goaway', (code) => resolve(code)));
  const closed = new Promise<void>((resolve) => session.once('close', () => resolve()));
  const stream = session.request({ ':path': '/' });
  const body = new Promise<string>((resolve, reject) => {
    let text = '';
    stream.setEncoding('utf8');
    stream.on('data', (part: string) => (text += part));
    stream.on('end', () => resolve(text));
    stream.on('error', reject);
  });
  await called.promise;
  const draining = server.drain();
  assert.equal(await told, 0);
  gate.resolve();
  assert.equal(await body, 'finished');
  await Promise.all([closed, draining]);
});

test('draining under a load of keep-alive requests loses none', async (t) => {
  const { port, drain } = await serve(t, async (_component, exchange) => {
    await new Promise((resolve) => setImmediate(resolve));
    answer(exchange, 200, 'ok');
  });
  const failures: string[] = [];
  let served = 0;
  let draining: Promise<void> | undefined;
  const one = (own: Agent): Promise<'ok' | 'refused'> =>
    new Promise((resolve) => {
      const request = get({ port, host: '127.0.0.1', agent: own }, (response) => {
        response.resume();
        response.on('end', () => resolve('ok'));
        response.on('error', (error) => {
          failures.push(error.message);
          resolve('refused');
        });
      });
      request.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ECONNREFUSED') failures.push(`${error.code}`);
        resolve('refused');
      });
    });
  const loop = async (): Promise<void> => {
    const own = new Agent({ keepAlive: true, maxSockets: 1 });
    while ((await one(own)) === 'ok') {
      served += 1;
      if (served === 400) draining = drain();
    }
    own.destroy();
  };
  await Promise.all(Array.from({ length: 16 }, loop));
  await draining;
  assert.deepEqual(failures, []);
  assert.ok(served >= 400);
});
