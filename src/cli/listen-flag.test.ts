import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { findFreePort, maxPortAttempts, resolveListen } from './listen-flag.ts';

async function occupy(port = 0): Promise<Server> {
  const server = createServer().listen({ port, host: '127.0.0.1', exclusive: true });
  await once(server, 'listening');
  return server;
}

test('--listen takes literals as they are and looks names up', async () => {
  assert.deepEqual(await resolveListen('127.0.0.1:3000'), { host: '127.0.0.1', port: 3000 });
  assert.deepEqual(await resolveListen('[::1]:0'), { host: '::1', port: 0 });
  assert.deepEqual(await resolveListen('localhost:80'), { host: '127.0.0.1', port: 80 });
  assert.deepEqual(await resolveListen(':80'), { host: '0.0.0.0', port: 80 });
  await assert.rejects(resolveListen('no-such-host.invalid:80'), {
    code: 'not-found',
    message: /the host "no-such-host.invalid" is unknown/,
  });
  for (const text of ['3000', '127.0.0.1:', '127.0.0.1:65536', 'localhost:http', '']) {
    await assert.rejects(resolveListen(text), { code: 'invalid-argument', message: /^--listen is / });
  }
});

test('--find-free-port goes on to the next ports, and gives up after the last of its attempts', async () => {
  const first = await occupy();
  const { port } = first.address() as AddressInfo;
  const servers = [first];
  try {
    const found = await findFreePort({ host: '127.0.0.1', port });
    assert.ok(found.port > port && found.port < port + maxPortAttempts, `port ${found.port} of ${port}`);
    for (let next = port + 1; next < Math.min(port + maxPortAttempts, 65_536); next += 1) {
      // A port that somebody else has is as good.
      await occupy(next).then(
        (server) => servers.push(server),
        () => {},
      );
    }
    await assert.rejects(findFreePort({ host: '127.0.0.1', port }), {
      code: 'address-in-use',
      message: /are all in use: give another with --listen$/,
    });
  } finally {
    for (const server of servers) server.close();
  }
});

test('--find-free-port says when the address is not of this machine', async () => {
  await assert.rejects(findFreePort({ host: '192.0.2.1', port: 8080 }), {
    code: 'invalid-argument',
    message: /^cannot listen on "192.0.2.1" port 8080 \(EADDRNOTAVAIL\)/,
  });
});
