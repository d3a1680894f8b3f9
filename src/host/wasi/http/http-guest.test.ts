import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { parseAllowedHosts, refusalLines } from '../../../app/allowed-hosts.ts';
import { parseDestination } from '../../../app/allowed-hosts-url.ts';
import type { HeaderList, HttpExchange, ResponseSink } from '../../http-exchange.ts';
import { InstanceScope } from '../../scope.ts';
import { createCli } from '../cli.ts';
import { createClocks } from '../clocks.ts';
import { createFilesystem } from '../filesystem.ts';
import { openPreopens } from '../filesystem-preopens.ts';
import { type ByteSink, createIo, ioAsyncImports } from '../io.ts';
import { createRandom } from '../random.ts';
import { acceptExchange, type ExchangeOutcome, sendFailure } from './accept-exchange.ts';
import { createHttp, httpAsyncImports } from './http.ts';
import { OutboundClient } from './outbound.ts';
import { NameResolver, parseResolverConfig } from './resolver.ts';

/** A ResponseSink straight over a server's response. */
class PlainSink implements ResponseSink {
  readonly #response: ServerResponse;
  readonly #drained = new EventEmitter().setMaxListeners(0);
  started = false;

  constructor(response: ServerResponse) {
    this.#response = response;
    response.on('drain', () => this.#drained.emit('drain'));
    response.on('close', () => this.#drained.emit('drain'));
  }

  start(status: number, headers: HeaderList): void {
    this.started = true;
    const flat = headers.flatMap(([name, value]) => [name, Buffer.from(value).toString('latin1')]);
    this.#response.writeHead(status, flat).flushHeaders();
  }

  write(bytes: Uint8Array): void {
    this.#response.write(bytes, () => this.#drained.emit('drain'));
  }

  capacity(): number {
    return Math.max(0, 65536 - this.#response.writableLength);
  }

  onDrain(callback: () => void): () => void {
    this.#drained.once('drain', callback);
    return () => this.#drained.off('drain', callback);
  }

  isFlushed(): boolean {
    return this.#response.writableLength === 0;
  }

  end(trailers: HeaderList = []): void {
    this.#response.addTrailers(
      trailers.map(([name, value]) => [name, String(Buffer.from(value))] as const) as never,
    );
    this.#response.end();
  }

  abort(): void {
    this.#response.destroy();
  }
}

function bytesOf(raw: readonly string[]): HeaderList {
  const list: [string, Uint8Array][] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    list.push([raw[index] ?? '', Buffer.from(raw[index + 1] ?? '', 'latin1')]);
  }
  return list;
}

const silent: ByteSink = {
  readiness: { isReady: () => true, subscribe: () => () => {} },
  capacity: () => 65536,
  write: () => {},
  flush: () => {},
  isFlushed: () => true,
  close: () => {},
};

type Handler = { handle(request: object, outparam: object): Promise<void> };
type Instantiate = (
  getCoreModule: (name: string) => WebAssembly.Module,
  imports: Record<string, object>,
) => Promise<{ incomingHandler: Handler }>;

const modules = new Map<string, WebAssembly.Module>();
const scopes: InstanceScope[] = [];
const outcomes: ExchangeOutcome[] = [];
const ended = new EventEmitter();
const warnings: string[] = [];
let directory = '';
let instantiate: Instantiate;
let outbound: OutboundClient;

const server = createServer((request, response) => void serve(request, response));
let port = 0;

/** What the engine does with one request: a fresh instance, and the scope's end when the call is over. */
async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const scope = new InstanceScope();
  scopes.push(scope);
  const gone = new AbortController();
  response.on('close', () => {
    gone.abort();
    if (!response.writableFinished) scope.end(new Error('the client has gone'));
  });
  const exchange: HttpExchange = {
    method: request.method ?? '',
    scheme: 'http',
    authority: request.headers.host ?? '',
    pathWithQuery: request.url ?? '',
    headers: bytesOf(request.rawHeaders),
    body: request,
    trailers: () => bytesOf(request.rawTrailers),
    signal: gone.signal,
    response: new PlainSink(response),
  };
  const accepted = acceptExchange(exchange, scope);
  try {
    const cli = { environment: [], args: [], stdout: silent, stderr: silent };
    const imports = Object.fromEntries([
      ...createIo(scope),
      ...createCli(cli, scope),
      ...createClocks(scope),
      ...createRandom(),
      ...createFilesystem({ preopens: openPreopens([]) }, scope),
      ...createHttp({ outbound, warn: (line) => warnings.push(line) }, scope),
    ]);
    const instance = await instantiate((name) => modules.get(name) as WebAssembly.Module, imports);
    await instance.incomingHandler.handle(accepted.request, accepted.outparam);
    scope.end(new Error('the call is over'));
  } catch (error) {
    scope.end(error instanceof Error ? error : new Error(String(error)));
  }
  const outcome = await accepted.finished;
  if (outcome.kind === 'error' || outcome.kind === 'no-response') sendFailure(exchange.response);
  outcomes.push(outcome);
  ended.emit('ended');
}

/**
 * jco's glue, so changed that a wait the host rejects unwinds the guest: as generated, a rejected import without a
 * `result` type (`pollable.block`, `poll`) returns a promise that never settles.
 */
function unwinding(glue: Uint8Array): string {
  const text = new TextDecoder().decode(glue);
  const stuck = 'return task.completionPromise();';
  assert.ok(text.includes(stuck), 'jco generates other glue than this was written for');
  return text.replaceAll(stuck, 'throw err;');
}

before(async () => {
  const { generate, $init } = await import('@bytecodealliance/jco-transpile/component');
  await $init;
  const component = await readFile(new URL('../../../../fixtures/rust-http/rust-http.wasm', import.meta.url));
  const { files } = generate(component, {
    name: 'guest',
    noTypescript: true,
    instantiation: { tag: 'async' },
    importBindings: { tag: 'hybrid' },
    multiMemory: true,
    noNodejsCompat: true,
    asyncMode: { tag: 'jspi', val: { imports: [...ioAsyncImports, ...httpAsyncImports], exports: ['*'] } },
  });
  directory = await mkdtemp(join(tmpdir(), 'http-guest-'));
  for (const [name, bytes] of files) {
    if (name.endsWith('.wasm')) modules.set(name, await WebAssembly.compile(Buffer.from(bytes)));
    else await writeFile(join(directory, name.replace(/\.js$/, '.mjs')), unwinding(bytes));
  }
  ({ instantiate } = await import(pathToFileURL(join(directory, 'guest.mjs')).href));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
  const allowed = parseAllowedHosts([`http://127.0.0.1:${port}`], []);
  outbound = new OutboundClient({
    policy: {
      parse: parseDestination,
      allows: (destination) => allowed.allows(destination),
      allowsSelf: () => allowed.allowsSelf(),
      namesAddress: () => false,
      blocks: () => false,
      refusal: (destination) => refusalLines('rust-http', destination),
    },
    resolver: new NameResolver(parseResolverConfig('', '')),
  });
});

after(async () => {
  await outbound.close();
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true });
});

type Answer = {
  status: number;
  headers: IncomingMessage['headers'];
  body: Buffer;
  trailers: NodeJS.Dict<string>;
};

async function ask(path: string, method = 'GET', body: Uint8Array = Buffer.alloc(0)): Promise<Answer> {
  const outgoing = httpRequest({ host: '127.0.0.1', port, path, method });
  outgoing.end(body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const { statusCode = 0, headers, trailers } = response;
  return { status: statusCode, headers, body: Buffer.concat(chunks), trailers };
}

async function lastOutcome(): Promise<ExchangeOutcome | undefined> {
  while (outcomes.length < scopes.length) await once(ended, 'ended');
  return outcomes.at(-1);
}

test('a guest greets, and nothing of it is left', async () => {
  const { status, headers, body } = await ask('/hello/you');
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/plain');
  assert.equal(body.toString(), 'Hello, you, from Rust\n');
  assert.deepEqual(await lastOutcome(), { kind: 'sent', status: 200 });
  const scope = scopes.at(-1);
  assert.equal(scope?.openHandles, 0);
  assert.equal(scope?.pendingWaits, 0);
});

test('a guest sees the request without connection fields', async () => {
  const { body } = await ask('/request?a=b', 'PUT', Buffer.from('data'));
  const lines = body.toString().split('\n');
  assert.deepEqual(lines.slice(0, 5), [
    'method=PUT',
    'scheme=http',
    `authority=127.0.0.1:${port}`,
    'path=/request',
    'query=a=b',
  ]);
  assert.ok(lines.includes('header content-length: 4'));
  assert.ok(lines.includes('body=data'));
  assert.ok(!lines.some((line) => line.startsWith('header host') || line.startsWith('header connection')));
});

test('8 MiB are echoed while they arrive, with a trailer at the end', async () => {
  const data = Buffer.alloc(8 * 1024 * 1024, 'echo ');
  const { status, body, trailers } = await ask('/echo', 'POST', data);
  assert.equal(status, 200);
  assert.ok(body.equals(data));
  assert.equal(trailers['x-trailer'], 'yes');
});

test('8 MiB are taken in, and 8 MiB are given out', async () => {
  const size = 8 * 1024 * 1024;
  assert.equal((await ask('/count', 'POST', Buffer.alloc(size))).body.toString(), `${size}\n`);
  assert.equal((await ask(`/large/${size}`)).body.length, size);
});

test('a body streams while the guest goes on', async () => {
  const outgoing = httpRequest({ host: '127.0.0.1', port, path: '/stream/3/1' }).end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const [first] = await once(response, 'data');
  assert.equal(String(first), 'chunk 0\n');
  assert.equal(response.complete, false);
  response.resume();
  await once(response, 'end');
  assert.equal(response.complete, true);
});

test('statuses are passed on; a final 1xx and an impossible one are the guest’s failure', async () => {
  for (const status of [200, 204, 304, 404, 599]) {
    const answer = await ask(`/status/${status}`);
    assert.equal(answer.status, status);
    assert.equal(answer.body.toString(), status === 204 || status === 304 ? '' : 'status\n');
  }
  for (const status of [100, 101, 103, 99, 1000]) {
    assert.equal((await ask(`/status/${status}`)).status, 500, String(status));
    assert.equal((await lastOutcome())?.kind, 'error');
  }
});

test('the answer to HEAD has no body, whatever the guest writes', async () => {
  const { status, body } = await ask('/hello', 'HEAD');
  assert.equal(status, 200);
  assert.equal(body.length, 0);
  assert.deepEqual(await lastOutcome(), { kind: 'sent', status: 200 });
});

test('no response, an error and a trap are 500 with an empty body, told apart', async () => {
  const kinds: unknown[] = [];
  for (const path of ['/noresponse', '/error', '/panic']) {
    const { status, headers, body } = await ask(path);
    assert.equal(status, 500);
    assert.equal(headers['content-length'], '0');
    assert.equal(body.length, 0);
    kinds.push(await lastOutcome());
  }
  assert.deepEqual(kinds, [
    { kind: 'no-response' },
    { kind: 'error', code: { tag: 'internal-error', val: 'asked for' } },
    { kind: 'no-response' },
  ]);
  assert.equal((await ask('/hello')).status, 200);
});

test('outbound requests reach what is allowed and nothing else', async () => {
  const allowed = await ask('/outbound', 'POST', Buffer.from(`http 127.0.0.1:${port} /hello/itself`));
  assert.equal(allowed.body.toString(), '200 Hello, itself, from Rust\n');
  const denied = await ask('/outbound', 'POST', Buffer.from(`http localhost:${port} /hello`));
  assert.equal(denied.status, 502);
  assert.match(denied.body.toString(), /^failed .*HttpRequestDenied/);
  assert.match(warnings.at(-2) ?? '', new RegExp(`"http://localhost:${port}"`));
});

test('a client that goes away in the middle of the body leaves nothing behind', async () => {
  const outgoing = httpRequest({ host: '127.0.0.1', port, path: '/stream/1000000/1' }).end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  await once(response, 'data');
  outgoing.destroy();
  const outcome = await lastOutcome();
  assert.equal(outcome?.kind, 'cut');
  assert.equal(scopes.at(-1)?.pendingWaits, 0);
  assert.equal(scopes.at(-1)?.openHandles, 0);
});

test('a client that sends half a body and goes away ends the guest', async () => {
  const before = scopes.length;
  const socket = connect(port, '127.0.0.1');
  socket.write('POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf');
  while (scopes.length === before) await once(server, 'request');
  socket.destroy();
  await lastOutcome();
  assert.equal(scopes.at(-1)?.pendingWaits, 0);
  assert.equal(scopes.at(-1)?.openHandles, 0);
});
