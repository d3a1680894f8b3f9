import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { listenTcp } from '../linux.ts';
import { AppRunner } from './app-runner.ts';
import { CoreModules } from './core-modules.ts';
import { OutputSink } from './output-sink.ts';
import { RequestBoard } from './request-board.ts';
import { RequestDesk, type RequestScope } from './request-desk.ts';
import { claimOf, fixtures, prepareApp, SuiteCleanup, temporaryFolder } from './test-engine.ts';

/** Requests in each kind of wait. */
const each = 50;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const suite = new SuiteCleanup();

const scopes: RequestScope[] = [];
let made = 0;
let finalized = 0;
const instances = new FinalizationRegistry(() => {
  finalized += 1;
});

let silent: Server;
const silentSockets: Socket[] = [];
let runner: AppRunner | undefined;
let port = 0;

before(async () => {
  const open = RequestDesk.prototype.open;
  RequestDesk.prototype.open = function (text) {
    const scope = open.call(this, text);
    scopes.push(scope);
    return scope;
  };
  const { Instance } = WebAssembly;
  WebAssembly.Instance = new Proxy(Instance, {
    construct(target, args: [WebAssembly.Module, WebAssembly.Imports?]) {
      const instance = new target(...args);
      made += 1;
      instances.register(instance, undefined);
      return instance;
    },
  });
  suite.after(() => {
    RequestDesk.prototype.open = open;
    WebAssembly.Instance = Instance;
  });
  silent = createServer((socket) => void silentSockets.push(socket.on('error', () => {})));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  suite.after(() => {
    for (const socket of silentSockets) socket.destroy();
    silent.close();
  });
  const folder = await temporaryFolder(suite);
  const { port: silentPort } = silent.address() as AddressInfo;
  const prepared = await prepareApp(
    folder,
    `spin_manifest_version = 2
[application]
name = "abandoned"
[[trigger.http]]
route = "/..."
component = "rust"
[component.rust]
source = "rust-http.wasm"
allowed_outbound_hosts = ["http://127.0.0.1:${silentPort}"]
`,
    { 'rust-http.wasm': join(fixtures, 'rust-http', 'rust-http.wasm') },
  );
  const compiled = await CoreModules.open(prepared).complete();
  const environment = [['SPIN_REQUEST_TIMEOUT', '20s']] as const;
  const loaded = await AppRunner.load(claimOf(prepared, folder, { environment }), compiled, {
    stdout: new OutputSink(undefined),
    stderr: new OutputSink(undefined),
    board: new RequestBoard(),
    wake: () => {},
  });
  const listening = listenTcp({ host: '127.0.0.1', port: 0 });
  port = listening.port;
  await loaded.serve(listening.fd, `127.0.0.1:${port}`, false);
  runner = loaded;
  suite.after(() => runner?.close());
});

after(() => suite.run());

/** Begins requests whose guests wait each in its own way, and gives them once all of them do. */
async function beginWaiting(): Promise<readonly { destroy(): unknown }[]> {
  const { port: silentPort } = silent.address() as AddressInfo;
  const begin = (method: string, path: string, body = ''): ClientRequest => {
    const sent = request({ host: '127.0.0.1', port, path, method, agent: false });
    sent.on('error', () => {});
    if (path === '/count') sent.write('some of it');
    else sent.end(body);
    return sent;
  };
  const first = scopes.length;
  const beginUnread = (path: string): Socket => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {}).pause();
    socket.write(`GET ${path} HTTP/1.1\r\nHost: abandoned\r\n\r\n`);
    return socket;
  };
  const begun = Array.from({ length: each }, () => [
    // A clock; a read of the request's body; a write to a client that does not read; an answer from elsewhere.
    begin('GET', '/stream/1000/1000000'),
    begin('POST', '/count'),
    beginUnread('/large/6000000'),
    begin('POST', '/outbound', `http 127.0.0.1:${silentPort} /`),
  ]).flat();
  const waiting = (): boolean =>
    scopes.length === first + begun.length &&
    scopes.slice(first).every((scope) => scope.pendingWaits > 0) &&
    silentSockets.length > 0;
  while (!waiting()) await pause(5);
  return begun;
}

test('300 guests wait at once in one worker, and all of them answer', async () => {
  const first = scopes.length;
  const sent = Array.from({ length: 300 }, () => {
    const post = request({ host: '127.0.0.1', port, path: '/count', method: 'POST', agent: false });
    post.write('four');
    return post;
  });
  const answers = sent.map(async (post) => {
    const [answer] = (await once(post, 'response')) as [IncomingMessage];
    return text(answer);
  });
  const waiting = (): number => scopes.slice(first).filter(({ pendingWaits }) => pendingWaits > 0).length;
  while (waiting() < 300) await pause(5);
  for (const post of sent) post.end('more');
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['8\n']));
});

test(`of ${4 * each} guests that clients leave waiting no wait, no object and no instance is left`, async () => {
  const before = made;
  const begun = await beginWaiting();
  assert.ok(made - before >= begun.length);
  for (const sent of begun) sent.destroy();
  while (scopes.some((scope) => scope.ended === undefined)) await pause(5);
  assert.deepEqual(
    scopes.filter((scope) => scope.pendingWaits > 0 || scope.openHandles > 0),
    [],
  );
  // A guest whose writes lead nowhere may have come to its end and wait in the pool: that goes, too.
  runner?.close();
  runner = undefined;
  scopes.length = 0;
  // Four core instances are those of the one that V8's caches may still know.
  while (made - finalized > 4) {
    await pause(5);
    collect();
  }
});
