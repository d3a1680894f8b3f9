import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { asyncImports } from '../../host/async-imports.ts';
import type { HeaderList, HttpExchange, ResponseSink } from '../../host/http-exchange.ts';
import { type ComponentGrant, createImports } from '../../host/imports.ts';
import { InstanceScope } from '../../host/scope.ts';
import { openSqliteKeyValue } from '../../host/spin/key-value-sqlite.ts';
import { openPreopens } from '../../host/wasi/filesystem-preopens.ts';
import { acceptExchange } from '../../host/wasi/http/accept-exchange.ts';
import { OutboundClient } from '../../host/wasi/http/outbound.ts';
import { NameResolver, parseResolverConfig } from '../../host/wasi/http/resolver.ts';
import type { ByteSink } from '../../host/wasi/io.ts';
import { type JcoComponent, jcoComponent, linkedComponent } from './jco-instance.ts';
import type { LinkedComponent } from './linked-component.ts';
import type { LinkedInstance } from './linked-instance.ts';

class CollectingSink implements ResponseSink {
  started = false;
  status = 0;
  headers: HeaderList = [];
  trailers: HeaderList = [];
  end_: 'ended' | 'aborted' | undefined;
  readonly chunks: Uint8Array[] = [];

  start(status: number, headers: HeaderList): void {
    this.started = true;
    this.status = status;
    this.headers = headers;
  }
  write(bytes: Uint8Array): void {
    this.chunks.push(bytes);
  }
  capacity(): number {
    return 65536;
  }
  onDrain(): () => void {
    return () => {};
  }
  isFlushed(): boolean {
    return true;
  }
  end(trailers: HeaderList = []): void {
    this.trailers = trailers;
    this.end_ = 'ended';
  }
  abort(): void {
    this.end_ = 'aborted';
  }
}

const output: string[] = [];
const collecting: ByteSink = {
  readiness: { isReady: () => true, subscribe: () => () => {} },
  capacity: () => 65536,
  write: (bytes) => void output.push(Buffer.from(bytes).toString()),
  flush: () => {},
  isFlushed: () => true,
  close: () => {},
};

const outbound = new OutboundClient({
  policy: {
    parse: () => undefined,
    allows: () => false,
    allowsSelf: () => false,
    namesAddress: () => false,
    blocks: () => false,
    refusal: () => ['refused'],
  },
  resolver: new NameResolver(parseResolverConfig('', '')),
});

const grant: ComponentGrant = {
  componentId: 'guest',
  cli: { environment: [['COLOUR', 'blue']], args: ['guest', 'one'], stdout: collecting, stderr: collecting },
  filesystem: { preopens: openPreopens([]) },
  http: { outbound, warn: () => {} },
  variables: { get: async () => undefined } as never,
  keyValue: { granted: [], stores: openSqliteKeyValue(new Map()) },
};

type Request = { readonly path: string; readonly method?: string; readonly body?: Uint8Array };

/** Everything of one request that a client or an operator could see. */
type Seen = {
  readonly outcome: unknown;
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: string;
  readonly trailers: readonly string[];
  readonly output: string;
  readonly failure: string | undefined;
  readonly leftOver: number;
};

const quiet = new AbortController().signal;
const plain = (list: HeaderList): string[] => list.map(([name, value]) => `${name}: ${Buffer.from(value)}`);

async function see(
  { path, method = 'GET', body }: Request,
  handle: (scope: InstanceScope, request: object, outparam: object) => Promise<unknown>,
): Promise<Seen> {
  output.length = 0;
  const scope = new InstanceScope();
  const sink = new CollectingSink();
  const exchange: HttpExchange = {
    method,
    scheme: 'http',
    authority: 'guest.test',
    pathWithQuery: path,
    headers: [
      ['accept', Buffer.from('*/*')],
      ['x-twice', Buffer.from('1')],
      ['x-twice', Buffer.from('zwei')],
    ],
    // The reader's own, to free.
    body: Readable.from(body === undefined ? [] : [Buffer.from(body)]),
    trailers: () => [],
    signal: quiet,
    response: sink,
  };
  const { request, outparam, finished } = acceptExchange(exchange, scope);
  let failure: string | undefined;
  try {
    await handle(scope, request, outparam);
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  }
  scope.end(new Error('the request is over'));
  return {
    outcome: await finished,
    status: sink.status,
    headers: plain(sink.headers),
    body: Buffer.concat(sink.chunks).toString('latin1'),
    trailers: plain(sink.trailers),
    output: output.join(''),
    failure,
    leftOver: scope.openHandles + scope.pendingWaits,
  };
}

const handlers = {
  hello: 'wasi:http/incoming-handler@0.2.0',
  'rust-http': 'wasi:http/incoming-handler@0.2.4',
} as const;
type Name = keyof typeof handlers;

const linked = new Map<Name, LinkedComponent>();
/** The same, all host functions lowered by their types and none by hand. */
const generic = new Map<Name, LinkedComponent>();
const jco = new Map<Name, JcoComponent>();
// The clocks of guests do not keep a process alive; in the engine its server does.
let alive: NodeJS.Timeout;

before(async () => {
  alive = setInterval(() => {}, 60_000);
  for (const name of ['hello', 'rust-http'] as const) {
    const bytes = await readFile(new URL(`../../../fixtures/${name}/${name}.wasm`, import.meta.url));
    linked.set(name, linkedComponent(bytes, asyncImports));
    generic.set(name, linkedComponent(bytes, asyncImports, { onlyGeneric: true }));
    jco.set(name, await jcoComponent(bytes, asyncImports));
  }
});

after(async () => {
  clearInterval(alive);
  await outbound.close();
});

function component(name: Name, from = linked): LinkedComponent {
  const found = from.get(name);
  assert.ok(found);
  return found;
}

function freshLinked(name: Name, request: Request, from = linked): Promise<Seen> {
  return see(request, (scope, ...args) =>
    component(name, from)
      .instantiate(createImports(grant, scope, []))
      .call(handlers[name], 'handle', args),
  );
}

function freshJco(name: Name, request: Request): Promise<Seen> {
  return see(request, async (scope, ...args) => {
    const instance = await jco.get(name)?.instantiate(createImports(grant, scope, []));
    await instance?.[handlers[name]]?.handle?.(...args);
  });
}

/** An instance that serves one request after the other, restored in between. */
function restoring(name: Name): { readonly instance: LinkedInstance; ask(request: Request): Promise<Seen> } {
  const instance = component(name).instantiate(createImports(grant, new InstanceScope(), []));
  assert.equal(instance.snapshot().ok, true);
  return {
    instance,
    ask: async (request) => {
      const seen = await see(request, (scope, ...args) => {
        instance.attach(createImports(grant, scope, []));
        return instance.call(handlers[name], 'handle', args);
      });
      instance.restore();
      return seen;
    },
  };
}

const requests: readonly Request[] = [
  { path: '/' },
  { path: '/hello/you' },
  { path: '/request?a=b', method: 'PUT', body: Buffer.from('dätä') },
  { path: '/request', method: 'BREW' },
  { path: '/status/418' },
  { path: '/echo', method: 'POST', body: Buffer.alloc(300_000, 'echo ') },
  { path: '/stream/4/1' },
  { path: '/large/2000000' },
  { path: '/count', method: 'POST', body: Buffer.alloc(1_000_000) },
  { path: '/outbound', method: 'POST', body: Buffer.from('http 127.0.0.1:1 /') },
  { path: '/env' },
  { path: '/file/static/none' },
  { path: '/write/static/none', method: 'POST', body: Buffer.from('x') },
  { path: '/log?line' },
  { path: '/alloc/3' },
  { path: '/noresponse' },
  { path: '/error' },
  { path: '/none' },
];

for (const request of requests) {
  test(`rust-http answers ${request.method ?? 'GET'} ${request.path} as under jco, fresh and restored`, async () => {
    const expected = await freshJco('rust-http', request);
    assert.deepEqual(await freshLinked('rust-http', request), expected);
    assert.deepEqual(await freshLinked('rust-http', request, generic), expected, 'by their types');
    const { ask } = restoring('rust-http');
    for (let round = 0; round < 3; round++) assert.deepEqual(await ask(request), expected);
  });
}

test('hello answers as under jco', async () => {
  const expected = await freshJco('hello', { path: '/' });
  assert.equal(expected.body, 'Hello from Spin!\n');
  assert.deepEqual(await freshLinked('hello', { path: '/' }), expected);
  assert.deepEqual(await freshLinked('hello', { path: '/' }, generic), expected);
});

test('a guest that panics leaves a dead instance that is neither called nor restored again', async () => {
  const expected = await freshJco('rust-http', { path: '/panic' });
  const { instance, ask } = restoring('rust-http');
  await assert.rejects(ask({ path: '/panic' }), /cannot be restored/);
  assert.notEqual(instance.dead, undefined);
  const seen = await freshLinked('rust-http', { path: '/panic' });
  // jco has a text of its own for V8's "unreachable".
  assert.equal(seen.failure, 'unreachable');
  assert.deepEqual({ ...seen, failure: '' }, { ...expected, failure: '' });
  await assert.rejects(instance.call(handlers['rust-http'], 'handle', []), /has trapped/);
});

test('restored requests of all kinds one after the other answer as fresh ones', async () => {
  const { instance, ask } = restoring('rust-http');
  const size = instance.memoryBytes;
  for (const request of [...requests, ...requests.toReversed()])
    assert.deepEqual(await ask(request), await freshLinked('rust-http', request), request.path);
  assert.ok(instance.memoryBytes > size, 'a guest that has grown its memory keeps its size');
  assert.equal(instance.openHandles, 0);
});

test('every restored instance asks for its randomness and its environment anew', async () => {
  const { ask } = restoring('rust-http');
  const first = await ask({ path: '/random' });
  const second = await ask({ path: '/random' });
  assert.notEqual(first.body, second.body);
  assert.equal((await ask({ path: '/env' })).body, 'COLOUR=blue\n');
});

test('two instances of one component do not see each other, suspended at the same time', async () => {
  const first = restoring('rust-http');
  const second = restoring('rust-http');
  const answers = await Promise.all(
    [first, second].map(({ ask }, index) =>
      see({ path: `/stream/${3 + index}/1` }, (scope, ...args) => {
        const { instance } = index === 0 ? first : second;
        instance.attach(createImports(grant, scope, []));
        return instance.call(handlers['rust-http'], 'handle', args);
      }).then((seen) => ({ seen, ask })),
    ),
  );
  assert.deepEqual(
    answers.map(({ seen }) => seen.body.split('\n').length - 1),
    [3, 4],
  );
});

test('10,000 restored requests hold no more memory than the first ones', async () => {
  const { instance, ask } = restoring('hello');
  const size = instance.memoryBytes;
  for (let round = 0; round < 10_000; round++) {
    const { body, leftOver } = await ask({ path: '/' });
    if (body !== 'Hello from Spin!\n' || leftOver !== 0) assert.fail(`request ${round} differs`);
  }
  assert.equal(instance.memoryBytes, size);
  assert.equal(instance.openHandles, 0);
});

test('a wait that the scope rejects unwinds the guest', async () => {
  const scope = new InstanceScope();
  const instance = component('rust-http').instantiate(createImports(grant, scope, []));
  const reason = new Error('the client has gone');
  const seen = await see({ path: '/stream/5/60000' }, (requestScope, ...args) => {
    instance.attach(createImports(grant, requestScope, []));
    const call = instance.call(handlers['rust-http'], 'handle', args);
    const poll = (): void => {
      if (requestScope.pendingWaits > 0) requestScope.end(reason);
      else setImmediate(poll);
    };
    poll();
    return call;
  });
  assert.equal(seen.failure, reason.message);
  assert.equal(instance.dead, reason);
});
