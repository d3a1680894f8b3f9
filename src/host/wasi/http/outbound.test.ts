import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { parseAllowedHosts, refusalLines } from '../../../app/allowed-hosts.ts';
import { BlockedNetworks } from '../../../app/allowed-hosts-blocked.ts';
import { parseDestination } from '../../../app/allowed-hosts-url.ts';
import { InstanceScope } from '../../scope.ts';
import type { InputStream } from '../io.ts';
import { Fields } from './fields.ts';
import type { FutureIncomingResponse } from './future-incoming-response.ts';
import { IncomingBody } from './incoming-body.ts';
import type { IncomingResponse } from './incoming-response.ts';
import type { Method } from './method.ts';
import { OutboundClient, type OutboundPolicy } from './outbound.ts';
import { OutgoingBody } from './outgoing-body.ts';
import { handle } from './outgoing-handler.ts';
import { OutgoingRequest } from './outgoing-request.ts';
import { RequestOptions } from './request-options.ts';
import { NameResolver, parseResolverConfig } from './resolver.ts';

type PolicyChanges = { block?: string[]; self?: OutboundPolicy['self']; names?: string };

/** The policy that the engine makes of an application's grant. */
function policyOf(entries: readonly string[], changes: PolicyChanges = {}): OutboundPolicy {
  const allowed = parseAllowedHosts(entries, []);
  const blocked = BlockedNetworks.parse(changes.block ?? []);
  return {
    parse: parseDestination,
    allows: (destination) => allowed.allows(destination),
    allowsSelf: () => allowed.allowsSelf(),
    namesAddress: (ip) => ip === changes.names,
    blocks: (ip) => blocked.blocks(ip),
    refusal: (destination) => refusalLines('component', destination),
    ...(changes.self === undefined ? {} : { self: changes.self }),
  };
}

class Guest implements AsyncDisposable {
  readonly scope = new InstanceScope();
  readonly warnings: string[] = [];
  readonly client: OutboundClient;

  constructor(policy: OutboundPolicy, hosts = '') {
    this.client = new OutboundClient({ policy, resolver: new NameResolver(parseResolverConfig('', hosts)) });
  }

  request(
    authority: string | undefined,
    path = '/',
    method: Method = { tag: 'get' },
    fields: [string, string][] = [],
  ) {
    const headers = Fields.fromList(
      this.scope,
      fields.map(([name, value]) => [name, Buffer.from(value)]),
    );
    const request = new OutgoingRequest(this.scope, headers);
    request.setScheme({ tag: 'HTTP' });
    request.setAuthority(authority);
    request.setPathWithQuery(path);
    request.setMethod(method);
    return request;
  }

  send(request: OutgoingRequest, options?: RequestOptions): FutureIncomingResponse {
    return handle(this.client, (line) => this.warnings.push(line), this.scope, request, options);
  }

  async settle(future: FutureIncomingResponse): Promise<IncomingResponse | { tag: string; val?: unknown }> {
    const pollable = future.subscribe();
    await pollable.block();
    pollable[Symbol.dispose]();
    const result = future.get();
    assert.equal(result?.tag, 'ok');
    assert.equal(future.get()?.tag, 'err');
    if (result?.tag !== 'ok') throw new Error('unreachable');
    return result.val.val;
  }

  async get(authority: string | undefined, path?: string): Promise<IncomingResponse | { tag: string }> {
    return this.settle(this.send(this.request(authority, path)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.scope.end(new Error('the test is over'));
    assert.equal(this.scope.pendingWaits, 0);
    await this.client.close();
  }
}

async function textOf(response: IncomingResponse | { tag: string }): Promise<string> {
  if ('tag' in response) return `error ${response.tag}`;
  const body = response.consume();
  const stream = body.stream();
  const bytes = await readAll(stream);
  stream[Symbol.dispose]();
  IncomingBody.finish(body)[Symbol.dispose]();
  return `${response.status()} ${bytes.toString()}`;
}

async function readAll(stream: InputStream): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    try {
      chunks.push(await stream.blockingRead(65536n));
    } catch (error) {
      if (error instanceof Error) throw error;
      assert.deepEqual(error, { tag: 'closed' });
      return Buffer.concat(chunks);
    }
  }
}

async function httpServer(listener: RequestListener): Promise<AsyncDisposable & { port: number }> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

test('an allowed request goes out with a host field of its own, and its answer comes back', async () => {
  await using server = await httpServer((request, response) => {
    response.setHeader(
      'x-seen',
      `${request.method} ${request.url} ${request.headers.host} ${request.headers['x-a']}`,
    );
    response.end('body');
  });
  await using guest = new Guest(policyOf([`http://localhost:${server.port}`]));
  const request = guest.request(`LOCALHOST:${server.port}`, '/p?q=1', { tag: 'get' }, [['X-A', 'b']]);
  const response = await guest.settle(guest.send(request));
  assert.ok(!('tag' in response));
  assert.equal(
    Buffer.from(response.headers().get('x-seen')[0] ?? []).toString(),
    `GET /p?q=1 localhost:${server.port} b`,
  );
  assert.equal(await textOf(response), '200 body');
  assert.deepEqual(guest.warnings, []);
});

test('what no entry allows is refused by the future, and the log says what to add', async () => {
  await using guest = new Guest(policyOf(['http://example.com']));
  for (const authority of ['127.0.0.1:9', '2130706433:9', 'example.com:81', '[::1]:9']) {
    assert.deepEqual(await guest.get(authority), { tag: 'HTTP-request-denied' }, authority);
  }
  assert.equal(guest.warnings.length, 8);
  assert.match(guest.warnings[0] ?? '', /"http:\/\/127\.0\.0\.1:9"/);
  assert.match(guest.warnings[2] ?? '', /"http:\/\/127\.0\.0\.1:9"/);
  assert.match(guest.warnings[1] ?? '', /"allowed_outbound_hosts"/);
});

test('authorities and paths that parsers disagree about are not accepted', async () => {
  await using guest = new Guest(policyOf(['*://*:*']));
  const request = guest.request('example.com');
  for (const authority of ['a@b', 'a/b', 'a\\b', 'a?b', 'a#b', 'a b', 'a%2fb', 'a\r\nb', 'ä.example']) {
    assert.throws(
      () => request.setAuthority(authority),
      (error) => error === undefined,
      authority,
    );
  }
  for (const path of ['http://evil/', 'x', '/a b', '/a\r\nx: y', '/#f', '*']) {
    assert.throws(
      () => request.setPathWithQuery(path),
      (error) => error === undefined,
      path,
    );
  }
  assert.throws(
    () => request.setMethod({ tag: 'other', val: 'A B' }),
    (error) => error === undefined,
  );
});

test('blocked networks are checked after names are resolved', async () => {
  await using server = await httpServer((_request, response) => response.end());
  await using guest = new Guest(
    policyOf(['*://*:*'], { block: ['private'] }),
    '127.0.0.1 rebound.example\n::ffff:127.0.0.1 mapped.example\n',
  );
  for (const host of [
    'rebound.example',
    'mapped.example',
    'localhost',
    '127.0.0.1',
    '[::ffff:7f00:1]',
    '0.0.0.0',
  ]) {
    assert.deepEqual(await guest.get(`${host}:${server.port}`), { tag: 'destination-IP-prohibited' }, host);
  }
});

test('metadata services are out of reach unless an entry names their address', async () => {
  const hosts = '169.254.169.254 meta.example\nfe80::1 link.example\nfd00:ec2::254 six.example\n';
  await using guest = new Guest(policyOf(['*://*:*']), hosts);
  const refused = { tag: 'destination-IP-prohibited' };
  for (const host of [
    '169.254.169.254',
    'meta.example',
    'link.example',
    'six.example',
    '[::ffff:a9fe:a9fe]',
    '2852039166',
  ]) {
    assert.deepEqual(await guest.get(host), refused, host);
  }
  await using named = new Guest(policyOf(['*://*:*'], { names: '169.254.169.254' }), hosts);
  const options = new RequestOptions(named.scope);
  options.setConnectTimeout(50_000_000n);
  const outcome = await named.settle(named.send(named.request('169.254.169.254:9'), options));
  assert.notDeepEqual(outcome, refused);
});

test('redirects are left to the guest', async () => {
  let requests = 0;
  await using server = await httpServer((_request, response) => {
    requests++;
    response.writeHead(302, { location: '/again' }).end();
  });
  await using guest = new Guest(policyOf([`http://127.0.0.1:${server.port}`]));
  assert.equal(await textOf(await guest.get(`127.0.0.1:${server.port}`)), '302 ');
  assert.equal(requests, 1);
});

test('relative and self requests go to the listener, if granted', async () => {
  await using server = await httpServer((request, response) => response.end(request.headers.host));
  const self = { scheme: 'http', host: '127.0.0.1', port: server.port };
  await using guest = new Guest(policyOf(['http://self'], { self, block: ['private'] }));
  for (const authority of [undefined, '', 'self.alt', 'self:8080', `127.0.0.1:${server.port}`]) {
    assert.equal(await textOf(await guest.get(authority)), `200 127.0.0.1:${server.port}`, String(authority));
  }
  await using other = new Guest(policyOf(['http://example.com'], { self }));
  assert.deepEqual(await other.get('self.alt'), { tag: 'HTTP-request-denied' });
});

test('calls to other components are refused with a reason', async () => {
  await using guest = new Guest(policyOf(['http://*:*']));
  assert.deepEqual(await guest.get('other.spin.internal'), { tag: 'HTTP-request-denied' });
  assert.match(guest.warnings[0] ?? '', /other\.spin\.internal/);
});

test('failures to connect have their own codes', async () => {
  await using guest = new Guest(policyOf(['*://*:*']));
  const tcp = createTcpServer().listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  const { port } = tcp.address() as AddressInfo;
  tcp.close();
  await once(tcp, 'close');
  assert.deepEqual(await guest.get(`127.0.0.1:${port}`), { tag: 'connection-refused' });
  const tls = guest.request('127.0.0.1');
  tls.setScheme({ tag: 'other', val: 'ftp' });
  assert.deepEqual(await guest.settle(guest.send(tls)), { tag: 'HTTP-protocol-error' });
});

async function rawServer(
  onConnection: (socket: Socket) => void,
): Promise<AsyncDisposable & { port: number }> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    onConnection(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

test('a server that never answers: timeouts are honoured, and ending the scope leaves nothing', async () => {
  const arrivals = new EventEmitter();
  const closed: Promise<unknown>[] = [];
  await using server = await rawServer((socket) => {
    closed.push(once(socket.resume(), 'close'));
    arrivals.emit('connection');
  });
  await using guest = new Guest(policyOf(['*://*:*']));
  const options = new RequestOptions(guest.scope);
  options.setFirstByteTimeout(20_000_000n);
  const late = guest.send(guest.request(`127.0.0.1:${server.port}`), options);
  assert.deepEqual(await guest.settle(late), { tag: 'connection-read-timeout' });
  await Promise.all(closed.splice(0));

  const connected = once(arrivals, 'connection');
  const waiting = guest.settle(guest.send(guest.request(`127.0.0.1:${server.port}`)));
  await connected;
  assert.equal(guest.scope.pendingWaits, 1);
  guest.scope.end(new Error('the client has gone'));
  await assert.rejects(waiting, /the client has gone/);
  assert.equal(guest.scope.pendingWaits, 0);
  assert.equal(guest.scope.openHandles, 0);
  await Promise.all(closed);
});

test('a broken or silent response body is an error of the stream', async () => {
  await using server = await rawServer((socket) => {
    socket.once('data', (request) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf');
      if (String(request).startsWith('GET /cut')) socket.end();
    });
  });
  await using guest = new Guest(policyOf(['*://*:*']));
  const bodyError = async (path: string): Promise<unknown> => {
    const options = new RequestOptions(guest.scope);
    options.setBetweenBytesTimeout(30_000_000n);
    const response = await guest.settle(guest.send(guest.request(`127.0.0.1:${server.port}`, path), options));
    assert.ok(!('tag' in response));
    const body = response.consume();
    const stream = body.stream();
    const error = await readAll(stream).then(
      () => 'no error',
      (thrown: { actual?: { tag: string } }) => thrown.actual?.tag,
    );
    assert.equal(error, 'last-operation-failed');
    stream[Symbol.dispose]();
    const result = IncomingBody.finish(body).get();
    return result?.tag === 'ok' ? result.val : undefined;
  };
  assert.deepEqual(await bodyError('/cut'), { tag: 'err', val: { tag: 'HTTP-response-incomplete' } });
  assert.deepEqual(await bodyError('/silent'), { tag: 'err', val: { tag: 'connection-read-timeout' } });
});

test('a large body streams both ways with back-pressure, and trailers follow', async () => {
  await using server = await httpServer((request, response) => {
    response.writeHead(200, { trailer: 'x-sum' });
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on('end', () => {
      response.addTrailers({ 'x-sum': String(bytes) });
      response.end();
    });
    request.pipe(response, { end: false });
  });
  await using guest = new Guest(policyOf(['*://*:*']));
  const request = guest.request(`127.0.0.1:${server.port}`, '/', { tag: 'post' });
  const body = request.body();
  assert.throws(
    () => request.body(),
    (error) => error === undefined,
  );
  const future = guest.send(request);
  const out = body.write();
  const total = 8 * 1024 * 1024;
  const write = async (): Promise<void> => {
    for (let sent = 0; sent < total; sent += 65536) {
      await out.blockingWriteAndFlush(new Uint8Array(65536).fill(sent / 65536));
    }
    out[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  };
  const read = async (): Promise<void> => {
    const response = await guest.settle(future);
    assert.ok(!('tag' in response));
    const incoming = response.consume();
    const stream = incoming.stream();
    const bytes = await readAll(stream);
    assert.equal(bytes.length, total);
    assert.equal(bytes[65536 * 100], 100);
    stream[Symbol.dispose]();
    const trailers = IncomingBody.finish(incoming);
    const pollable = trailers.subscribe();
    await pollable.block();
    pollable[Symbol.dispose]();
    const result = trailers.get();
    assert.ok(result?.tag === 'ok' && result.val.tag === 'ok');
    assert.equal(Buffer.from(result.val.val?.get('x-sum')[0] ?? []).toString(), String(total));
    assert.equal(trailers.get()?.tag, 'err');
  };
  await Promise.all([write(), read()]);
});

test('the announced length of a request body is kept or the request is given up', async () => {
  await using server = await httpServer((request, response) => request.pipe(response));
  await using guest = new Guest(policyOf(['*://*:*']));
  const start = (): [OutgoingBody, FutureIncomingResponse] => {
    const fields: [string, string][] = [['content-length', '4']];
    const request = guest.request(`127.0.0.1:${server.port}`, '/', { tag: 'post' }, fields);
    return [request.body(), guest.send(request)];
  };
  const [exact, fine] = start();
  await exact.write().blockingWriteAndFlush(Buffer.from('four'));
  OutgoingBody.finish(exact, undefined);
  assert.equal(await textOf(await guest.settle(fine)), '200 four');

  const [short] = start();
  await short.write().blockingWriteAndFlush(Buffer.from('two'));
  assert.throws(() => OutgoingBody.finish(short, undefined), { tag: 'HTTP-request-body-size', val: 3n });

  const [long] = start();
  assert.throws(() => long.write().write(Buffer.from('too long')), { tag: 'last-operation-failed' });
  assert.throws(() => OutgoingBody.finish(long, undefined), { tag: 'HTTP-request-body-size', val: 8n });
});

test('requests on their way are counted: one more than the limit is refused, one that is over makes room', async () => {
  await using server = await httpServer(() => {});
  const scope = new InstanceScope();
  const policy = policyOf([`http://127.0.0.1:${server.port}`]);
  const resolver = new NameResolver(parseResolverConfig('', ''));
  const client = new OutboundClient({ policy, resolver, maxRequests: 1 });
  const destination = parseDestination(`http://127.0.0.1:${server.port}`);
  assert.ok(destination !== undefined);
  const send = () =>
    client.send(scope, {
      destination,
      method: 'GET',
      path: '/',
      headers: [],
      contentLength: undefined,
      body: undefined,
      timeouts: { connect: 60_000, firstByte: 60_000, betweenBytes: 60_000 },
    });
  const first = send();
  assert.ok(!('tag' in first));
  assert.deepEqual(send(), { tag: 'connection-limit-reached' });
  first.abandon();
  for (;;) {
    const next = send();
    if (!('tag' in next)) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  scope.end(new Error('over'));
  await client.close();
});
