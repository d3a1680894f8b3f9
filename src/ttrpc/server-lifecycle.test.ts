import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, linkSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { TtrpcServer } from './server.ts';
import { StatusCode } from './status.ts';
import { decodeText, RawPeer, requestFrame, socketPath, textCodec, textRequest } from './test-peer.ts';
import { connect, echo, failsWith, serve } from './test-server.ts';

test('the socket is private while the server lives and gone after', async (t) => {
  const umask = process.umask();
  const { server, path } = await serve(t);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(process.umask(), umask);
  await assert.rejects(new TtrpcServer().listen(path), { code: 'EADDRINUSE' });
  await server.close();
  assert.ok(!existsSync(path));
  await assert.rejects(server.listen(path), failsWith(StatusCode.FailedPrecondition, /closed/));
});

test('the socket of a worker thread is private too', async (t) => {
  const path = socketPath(t);
  const script = `
    import { parentPort } from 'node:worker_threads';
    import { TtrpcServer } from ${JSON.stringify(new URL('./server.ts', import.meta.url).href)};
    const server = new TtrpcServer();
    await server.listen(${JSON.stringify(path)});
    parentPort.postMessage('listening');
    parentPort.once('message', () => server.close());
  `;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
  await once(worker, 'message');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  worker.postMessage('close');
  assert.deepEqual(await once(worker, 'exit'), [0]);
  assert.ok(!existsSync(path));
});

test('paths that are relative, abstract or too long are refused', async () => {
  const server = new TtrpcServer();
  for (const path of ['s.sock', '\0abstract', '/a\0b', 'unix:///run/s.sock']) {
    await assert.rejects(server.listen(path), failsWith(StatusCode.InvalidArgument, /not an absolute path/));
  }
  const long = `/${'x'.repeat(107)}`;
  await assert.rejects(server.listen(long), failsWith(StatusCode.InvalidArgument, /108 bytes/));
});

test('an inherited descriptor is served', async (t) => {
  const path = socketPath(t);
  const inherited = createServer();
  await new Promise<void>((resolve) => inherited.listen(path, resolve));
  const { fd } = (inherited as unknown as { readonly _handle: { readonly fd: number } })._handle;
  const script = `
    import { TtrpcServer } from ${JSON.stringify(new URL('./server.ts', import.meta.url).href)};
    const server = new TtrpcServer();
    server.register(${JSON.stringify(echo)}, new Map([['Say', async (payload) => payload]]));
    await server.listenFd(3);
    process.stdin.on('end', () => server.close()).resume();
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'inherit', 'inherit', fd],
  });
  const exited = once(child, 'exit');
  // Closing the listener here removes its path; the socket lives on under a second name.
  linkSync(path, `${path}2`);
  await new Promise((resolve) => inherited.close(resolve));
  const client = await connect(t, `${path}2`);
  assert.equal(await client.call(echo, 'Say', textCodec, 'inherited'), 'inherited');
  client.close();
  child.stdin?.end();
  assert.deepEqual(await exited, [0, null]);
});

test('close lets calls in flight end, refuses new ones, and then closes', async (t) => {
  const { server, path, nextHeld } = await serve(t, { closeGraceMs: 60_000 });
  const [busy, idle] = [await RawPeer.connect(t, path), await RawPeer.connect(t, path)];
  busy.send(requestFrame(1, textRequest(echo, 'Hold')));
  const held = await nextHeld();
  // The idle connection must have been accepted before the close is asked for.
  idle.send(requestFrame(1, textRequest(echo, 'Say')));
  await idle.reply();
  const closed = server.close();
  assert.equal(server.close(), closed);
  await idle.ended;
  busy.send(requestFrame(3, textRequest(echo, 'Say')));
  const refused = await busy.reply();
  assert.deepEqual([refused.streamId, refused.status?.code], [3, StatusCode.Unavailable]);
  assert.ok(!held.context.signal.aborted);
  held.resolve('last words');
  assert.equal(decodeText((await busy.reply()).payload), 'last words');
  await closed;
  await busy.ended;
});

test('close cuts off what outlasts the grace', async (t) => {
  const { server, path, nextHeld } = await serve(t, { closeGraceMs: 1 });
  const peer = await RawPeer.connect(t, path);
  peer.send(requestFrame(1, textRequest(echo, 'Hold')));
  const held = await nextHeld();
  await server.close();
  assert.ok(held.context.signal.aborted);
  await peer.ended;
});

test('a connection that is not admitted is closed unheard', async (t) => {
  const told: string[] = [];
  const answers: (() => boolean)[] = [
    () => false,
    () => {
      throw new Error('no credentials');
    },
    () => true,
  ];
  const { path } = await serve(t, {
    admit: () => (answers.shift() ?? (() => false))(),
    onError: (_error, where) => told.push(where),
  });
  for (const _ of [1, 2]) await (await RawPeer.connect(t, path)).ended;
  const client = await connect(t, path);
  assert.equal(await client.call(echo, 'Say', textCodec, 'in'), 'in');
  assert.deepEqual(told, ['admit']);
});

test('a service name is taken once', () => {
  const server = new TtrpcServer();
  server.register(echo, new Map());
  assert.throws(
    () => server.register(echo, new Map()),
    failsWith(StatusCode.AlreadyExists, /"test\.v1\.Echo"/),
  );
});
