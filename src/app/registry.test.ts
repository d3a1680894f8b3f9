import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { after, describe, it } from 'node:test';
import { sha256Digest, verifiedBytes, verifiedStream } from './blob-verify.ts';
import type { Credential } from './credentials.ts';
import { parseImageName } from './oci-name.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';
import { Registry, type RegistryOptions } from './registry.ts';
import { serve } from './registry-test-server.ts';
import { maxRedirects, RegistryTransport } from './registry-transport.ts';

const content = Buffer.from('blob content '.repeat(100));
const blob: Descriptor = { mediaType: 'a/b', digest: sha256Digest(content), size: content.length };
const manifest = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.manifest, layers: [] }),
);
const secret: Credential = { kind: 'basic', username: 'me', password: 'hush' };

describe('Registry', () => {
  const cleanups: (() => Promise<void>)[] = [];
  after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  type Seen = { readonly method: string; readonly url: string; readonly headers: IncomingMessage['headers'] };
  /** A server that remembers what it was asked. */
  const server = async (
    listener: (request: IncomingMessage, response: ServerResponse, count: number) => void,
  ): Promise<{ readonly host: string; readonly seen: Seen[] }> => {
    const seen: Seen[] = [];
    const { host, stop } = await serve((request, response) => {
      seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
      listener(request, response, seen.length);
    });
    cleanups.push(stop);
    return { host, seen };
  };
  const client = (host: string, options: RegistryOptions = {}): Registry => {
    const registry = new Registry(parseImageName(`${host}/repo/app`), {
      credentials: async () => undefined,
      retryDelayMs: 1,
      ...options,
    });
    cleanups.push(() => registry.close());
    return registry;
  };
  const readBlob = (registry: Registry): Promise<Buffer> => verifiedBytes(registry, blob, 10_000);

  it('resolves a tag to the digest of the bytes, and reads them from memory afterwards', async () => {
    const { host, seen } = await server((_, response) => {
      response.setHeader('content-type', `${mediaTypes.manifest}; charset=utf-8`).end(manifest);
    });
    const registry = client(host);
    const found = await registry.resolve(`${host}/repo/app:v1`);
    assert.deepEqual(found, {
      mediaType: mediaTypes.manifest,
      digest: sha256Digest(manifest),
      size: manifest.length,
    });
    assert.deepEqual(await verifiedBytes(registry, found, 10_000), manifest);
    assert.deepEqual(
      seen.map(({ url }) => url),
      ['/v2/repo/app/manifests/v1'],
    );
    assert.match(String(seen[0]?.headers.accept), /oci\.image\.index\.v1\+json/);
    await assert.rejects(registry.resolve(`${host}/other:v1`), { code: 'invalid-argument' });
  });

  it('refuses another manifest than the digest asked for', async () => {
    const { host } = await server((_, response) => void response.end(manifest));
    const reference = `${host}/repo/app@${blob.digest}`;
    await assert.rejects(client(host).resolve(reference), { code: 'digest-mismatch' });
  });

  it('bounds the size of a manifest', async () => {
    const { host } = await server((_, response) => void response.end(Buffer.alloc(4 * 1024 * 1024 + 1, ' ')));
    await assert.rejects(client(host).resolve(`${host}/repo/app`), { code: 'resource-exhausted' });
  });

  it('follows redirects and keeps the authorization to itself', async () => {
    const other = await server((_, response) => void response.end(content));
    const { host, seen } = await server((request, response) => {
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      } else if (request.url === '/there') {
        response.writeHead(307, { location: `http://${other.host}/blob?signed=1` }).end();
      } else {
        response.writeHead(307, { location: '/there' }).end();
      }
    });
    assert.deepEqual(await readBlob(client(host, { credentials: async () => secret })), content);
    const basic = `Basic ${Buffer.from('me:hush').toString('base64')}`;
    assert.deepEqual(
      seen.map(({ url, headers }) => [url, headers.authorization]),
      [
        [`/v2/repo/app/blobs/${blob.digest}`, undefined],
        [`/v2/repo/app/blobs/${blob.digest}`, basic],
        ['/there', basic],
      ],
    );
    assert.deepEqual(
      other.seen.map(({ url, headers }) => [url, headers.authorization, headers.cookie]),
      [['/blob?signed=1', undefined, undefined]],
    );
  });

  it('does not hand the authorization out again on the way back', async () => {
    let home = '';
    const other = await server(
      (_, response) => void response.writeHead(302, { location: `http://${home}/end` }).end(),
    );
    const { host, seen } = await server((request, response) => {
      if (request.url === '/end') response.end(content);
      else if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      } else response.writeHead(302, { location: `http://${other.host}/` }).end();
    });
    home = host;
    assert.deepEqual(await readBlob(client(host, { credentials: async () => secret })), content);
    assert.equal(seen.at(-1)?.url, '/end');
    assert.equal(seen.at(-1)?.headers.authorization, undefined);
  });

  it('does not answer the challenge of another origin', async () => {
    const other = await server((_, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="give"' }).end();
    });
    const { host } = await server((_, response) => {
      response.writeHead(307, { location: `http://${other.host}/` }).end();
    });
    await assert.rejects(readBlob(client(host, { credentials: async () => secret })), {
      code: 'unauthenticated',
    });
    assert.deepEqual(
      other.seen.map(({ headers }) => headers.authorization),
      [undefined],
    );
  });

  it('sends an upload that leads elsewhere without authorization', async () => {
    const storage = await server((request, response) => {
      request.resume().on('end', () => response.writeHead(201).end());
    });
    const { host, seen } = await server((request, response) => {
      request.resume();
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      } else if (request.method === 'HEAD') response.writeHead(404).end();
      else response.writeHead(202, { location: `http://${storage.host}/upload?state=1` }).end();
    });
    await client(host, { credentials: async () => secret, access: 'push' }).putBlob(blob, async function* () {
      yield content;
    });
    assert.ok(seen.some(({ method, headers }) => method === 'POST' && headers.authorization !== undefined));
    assert.deepEqual(
      storage.seen.map(({ method, url, headers }) => [
        method,
        url,
        headers.authorization,
        headers['content-length'],
      ]),
      [['PUT', `/upload?state=1&digest=${encodeURIComponent(blob.digest)}`, undefined, String(blob.size)]],
    );
  });

  it('begins an upload anew when it breaks', async () => {
    let uploads = 0;
    const { host, seen } = await server((request, response) => {
      if (request.method === 'HEAD') response.writeHead(404).end();
      else if (request.method === 'POST') response.writeHead(202, { location: `/upload/${++uploads}` }).end();
      else if (uploads === 1) request.socket.destroy();
      else if (uploads === 2) request.resume().on('end', () => response.writeHead(503).end());
      else request.resume().on('end', () => response.writeHead(201).end());
    });
    await client(host).putBlob(blob, async function* () {
      yield content;
    });
    const puts = seen.filter(({ method }) => method === 'PUT').map(({ url }) => url.split('?')[0]);
    assert.deepEqual(puts, ['/upload/1', '/upload/2', '/upload/3']);
  });

  it('does not send a body that turns out to be wrong to the end', async () => {
    const { host } = await server((request, response) => {
      if (request.method === 'HEAD') response.writeHead(404).end();
      else if (request.method === 'POST') response.writeHead(202, { location: '/upload' }).end();
      else request.resume().on('end', () => response.writeHead(201).end());
    });
    const other = {
      resolve: async () => blob,
      read: async function* () {
        yield Buffer.alloc(content.length, 'x');
      },
    };
    await assert.rejects(
      client(host).putBlob(blob, () => verifiedStream(other, blob)),
      { code: 'digest-mismatch' },
    );
  });

  it('stops after the allowed number of redirects', async () => {
    const { host, seen } = await server((request, response) => {
      response.writeHead(302, { location: `${request.url}x` }).end();
    });
    await assert.rejects(readBlob(client(host)), { code: 'unavailable', message: /more than 5 times/ });
    assert.equal(seen.length, maxRedirects + 1);
  });

  it('gets a bearer token for its repository, with credentials only to the token service', async () => {
    const tokens = await server(
      (_, response) => void response.end(JSON.stringify({ token: 'granted', expires_in: 60 })),
    );
    const { host, seen } = await server((request, response) => {
      if (request.headers.authorization === 'Bearer granted') response.end(content);
      else {
        const challenge = `Bearer realm="http://${tokens.host}/token",service="reg",scope="repository:repo/app:pull"`;
        response.writeHead(401, { 'www-authenticate': challenge }).end();
      }
    });
    const registry = client(host, { credentials: async () => secret });
    assert.deepEqual(await readBlob(registry), content);
    assert.deepEqual(await readBlob(registry), content);
    assert.equal(tokens.seen.length, 1);
    assert.equal(tokens.seen[0]?.url, '/token?service=reg&scope=repository%3Arepo%2Fapp%3Apull');
    assert.match(String(tokens.seen[0]?.headers.authorization), /^Basic /);
    assert.deepEqual(
      seen.map(({ headers }) => headers.authorization),
      [undefined, 'Bearer granted', 'Bearer granted'],
    );
  });

  it('exchanges an identity token by POST', async () => {
    let form = '';
    const tokens = await server((request, response) => {
      request.on('data', (chunk: Buffer) => {
        form += chunk.toString();
      });
      request.on('end', () => response.end(JSON.stringify({ access_token: 'granted' })));
    });
    const { host } = await server((request, response) => {
      if (request.headers.authorization === 'Bearer granted') response.end(content);
      else
        response
          .writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokens.host}/t",service="reg"` })
          .end();
    });
    const credentials = async (): Promise<Credential> => ({ kind: 'identity-token', token: 'refresh-me' });
    assert.deepEqual(await readBlob(client(host, { credentials })), content);
    const fields = new URLSearchParams(form);
    assert.equal(fields.get('grant_type'), 'refresh_token');
    assert.equal(fields.get('refresh_token'), 'refresh-me');
    assert.equal(fields.get('scope'), 'repository:repo/app:pull');
  });

  it('says how to log in, and keeps the secret to itself', async () => {
    const { host } = await server((_, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    });
    for (const credential of [undefined, secret]) {
      await assert.rejects(
        readBlob(client(host, { credentials: async () => credential })),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'unauthenticated');
          assert.ok(error.message.includes(`run "docker login ${host}"`));
          assert.doesNotMatch(String(error.stack), /hush|bWU6aHVzaA/);
          return true;
        },
      );
    }
  });

  it('refuses a token that would break the header, and a token service that is not http', async () => {
    const tokens = await server((_, response) => void response.end(JSON.stringify({ token: 'a\r\nx: y' })));
    for (const [realm, code] of [
      [`http://${tokens.host}/`, 'unavailable'],
      ['file:///etc/passwd', 'permission-denied'],
      ['http://user:pass@127.0.0.1/', 'permission-denied'],
      ['http://203.0.113.1/', 'permission-denied'],
      ['no url', 'unavailable'],
    ]) {
      const { host } = await server((_, response) => {
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end();
      });
      await assert.rejects(readBlob(client(host)), { code });
    }
  });

  it('tries again when the registry is busy, and gives up after the allowed attempts', async () => {
    const statuses = [503, 429];
    const busy = await server((_, response, count) => {
      const status = statuses[count - 1];
      if (status === undefined) response.end(content);
      else response.writeHead(status, { 'retry-after': '0' }).end();
    });
    assert.deepEqual(await readBlob(client(busy.host)), content);
    assert.equal(busy.seen.length, 3);
    const broken = await server((_, response) => void response.writeHead(500).end('no JSON'));
    await assert.rejects(readBlob(client(broken.host, { attempts: 2 })), {
      code: 'unavailable',
      message: /status 500/,
    });
    assert.equal(broken.seen.length, 2);
  });

  it('takes a download up where the connection broke', async () => {
    for (const ranges of [true, false]) {
      const { host, seen } = await server((request, response, count) => {
        const from = ranges ? Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
        response.writeHead(from > 0 ? 206 : 200, { 'content-length': content.length - from });
        if (count < 3) response.write(content.subarray(from, from + 300), () => response.destroy());
        else response.end(content.subarray(from));
      });
      assert.deepEqual(await readBlob(client(host)), content);
      assert.equal(seen.length, 3);
    }
  });

  it('says what the registry says, on one clean line', async () => {
    const { host } = await server((_, response) => {
      const errors = [{ code: 'DENIED', message: 'no\n\u001b[31mway' }];
      response.writeHead(403).end(JSON.stringify({ errors }));
    });
    await assert.rejects(readBlob(client(host)), {
      code: 'permission-denied',
      message: /\(DENIED: no\?\?\[31mway\)/,
    });
    const gone = await server((_, response) => void response.writeHead(404).end('<html>'));
    await assert.rejects(readBlob(client(gone.host)), {
      code: 'not-found',
      message: /check the name and the tag/,
    });
  });

  it('ends a registry that is silent', async () => {
    const { host } = await server((_, response) => void response.writeHead(200).write('x'));
    await assert.rejects(readBlob(client(host, { idleTimeoutMs: 50, attempts: 1 })), { code: 'unavailable' });
    const mute = await server(() => {});
    await assert.rejects(readBlob(client(mute.host, { headersTimeoutMs: 50, attempts: 1 })), {
      code: 'unavailable',
    });
    await assert.rejects(readBlob(client(mute.host, { deadlineMs: 50 })), { code: 'deadline-exceeded' });
  });

  it('says so when a manifest breaks off', async () => {
    const { host } = await server((_, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('{', () => response.destroy());
    });
    await assert.rejects(client(host).resolve(`${host}/repo/app`), {
      code: 'unavailable',
      message: /try|check/,
    });
  });

  it('says so when nobody answers', async () => {
    const { host, stop } = await serve(() => {});
    await stop();
    await assert.rejects(readBlob(client(host, { attempts: 2 })), {
      code: 'unavailable',
      message: /ECONNREFUSED/,
    });
  });
});

describe('RegistryTransport.checkUrl', () => {
  const check = (url: string, from?: string, insecure = false): void =>
    new RegistryTransport({ insecure }).checkUrl(
      new URL(url),
      from === undefined ? undefined : new URL(from),
    );
  const allowed: readonly (readonly [string, (string | undefined)?, boolean?])[] = [
    ['https://ghcr.io/'],
    ['http://localhost:5000/'],
    ['http://127.0.0.2/'],
    ['http://[::1]:5000/'],
    ['http://registry.lan/', undefined, true],
    ['https://cdn.example.com/', 'https://ghcr.io/'],
    ['https://cdn.example.com/', 'http://localhost/'],
  ];
  for (const [url, from, insecure] of allowed) {
    it(`lets ${url}${from === undefined ? '' : ` from ${from}`} be`, () => check(url, from, insecure));
  }
  const refused: readonly (readonly [string, (string | undefined)?, boolean?])[] = [
    ['http://registry.lan/'],
    ['http://cdn.example.com/', 'https://ghcr.io/', true],
    ['http://localhost/', 'https://ghcr.io/', true],
    ['http://127.0.0.1/', 'http://registry.lan/'],
    ['ftp://localhost/'],
    ['file:///etc/passwd', 'https://ghcr.io/'],
    ['https://user:pass@ghcr.io/'],
  ];
  for (const [url, from, insecure] of refused) {
    it(`refuses ${url}${from === undefined ? '' : ` from ${from}`}`, () => {
      assert.throws(() => check(url, from, insecure), { code: 'permission-denied' });
    });
  }
});
