import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { NameResolver, parseResolverConfig, type ResolverConfig } from './resolver.ts';

type Zone = ReadonlyMap<string, readonly string[] | 'silent' | 'fail'>;

/** A name server on loopback that answers A questions from `zone` and everything else with NXDOMAIN or nothing. */
async function nameServer(zone: Zone): Promise<AsyncDisposable & { address: string; asked: string[] }> {
  const socket = createSocket('udp4');
  const asked: string[] = [];
  socket.on('message', (query, from) => {
    const labels: string[] = [];
    let offset = 12;
    for (let length = query[offset] ?? 0; length > 0; length = query[offset] ?? 0) {
      labels.push(query.toString('latin1', offset + 1, offset + 1 + length));
      offset += length + 1;
    }
    const isA = query.readUInt16BE(offset + 1) === 1;
    const name = labels.join('.').toLowerCase();
    if (isA) asked.push(name);
    const entry = zone.get(name);
    if (entry === 'silent') return;
    const addresses = entry === undefined || entry === 'fail' || !isA ? [] : entry;
    const head = Buffer.from(query.subarray(0, 12));
    head.writeUInt16BE(0x8180 | (entry === 'fail' ? 2 : entry === undefined ? 3 : 0), 2);
    head.writeUInt16BE(addresses.length, 6);
    head.fill(0, 8, 12);
    const records = addresses.map((address) =>
      Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]),
    );
    socket.send(Buffer.concat([head, query.subarray(12, offset + 5), ...records]), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    [Symbol.asyncDispose]: async () => {
      socket.close();
      await once(socket, 'close');
    },
  };
}

function config(server: string, changes: Partial<ResolverConfig> = {}): ResolverConfig {
  return { ...parseResolverConfig('', ''), servers: [server], timeoutMs: 200, attempts: 1, ...changes };
}

test('resolv.conf and hosts files are read as the C library reads them', () => {
  const parsed = parseResolverConfig(
    'domain ignored.example\n# nameserver 9.9.9.9\nnameserver 10.96.0.10 ; cluster\nnameserver nonsense\nnameserver fd00::a\n' +
      'nameserver 1.1.1.1\nnameserver 8.8.8.8\nsearch default.svc.Cluster.local. svc.cluster.local\n' +
      'options ndots:5 timeout:2 attempts:99 rotate\n',
    '127.0.0.1 localhost\n10.0.0.7\tpod-1 Pod-1.example # me\nfd00::7 pod-1\nbroken line\n',
  );
  assert.deepEqual(parsed, {
    servers: ['10.96.0.10', 'fd00::a', '1.1.1.1'],
    search: ['default.svc.cluster.local', 'svc.cluster.local'],
    ndots: 5,
    timeoutMs: 2000,
    attempts: 5,
    hosts: new Map([
      ['localhost', ['127.0.0.1']],
      ['pod-1', ['10.0.0.7', 'fd00::7']],
      ['pod-1.example', ['10.0.0.7']],
    ]),
  });
});

test('names with few dots try the search domains first, others last', async () => {
  await using server = await nameServer(
    new Map([
      ['web.ns.svc', ['10.0.0.1']],
      ['a.example', ['10.0.0.2', '10.0.0.3']],
    ]),
  );
  const resolver = new NameResolver(config(server.address, { search: ['other.svc', 'ns.svc'], ndots: 1 }));
  assert.deepEqual(await resolver.resolve('web'), ['10.0.0.1']);
  assert.deepEqual(server.asked.splice(0), ['web.other.svc', 'web.ns.svc']);
  assert.deepEqual(await resolver.resolve('A.Example'), ['10.0.0.2', '10.0.0.3']);
  assert.deepEqual(server.asked.splice(0), ['a.example']);
  await assert.rejects(resolver.resolve('web.'), /DNS-error/);
  assert.deepEqual(server.asked, ['web']);
});

test('the hosts file and localhost are never asked of a server', async () => {
  await using server = await nameServer(new Map());
  const hosts = new Map([['db', ['10.0.0.9']]]);
  const resolver = new NameResolver(config(server.address, { hosts }));
  assert.deepEqual(await resolver.resolve('DB'), ['10.0.0.9']);
  assert.deepEqual(await resolver.resolve('localhost'), ['127.0.0.1', '::1']);
  assert.deepEqual(await resolver.resolve('app.localhost'), ['127.0.0.1', '::1']);
  assert.deepEqual(server.asked, []);
});

test('unknown names, failing and silent servers are told apart', async () => {
  await using server = await nameServer(
    new Map([
      ['broken.example', 'fail'],
      ['slow.example', 'silent'],
    ]),
  );
  const resolver = new NameResolver(config(server.address));
  const codeOf = (name: string): Promise<unknown> =>
    resolver.resolve(name).catch((error: { errorCode: unknown }) => error.errorCode);
  const notAvailable = { tag: 'DNS-error', val: { rcode: 'address not available', infoCode: 0 } };
  assert.deepEqual(await codeOf('missing.example'), notAvailable);
  assert.deepEqual(await codeOf('broken.example'), notAvailable);
  assert.deepEqual(await codeOf('slow.example'), { tag: 'DNS-timeout' });
});
