import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { encodeRequest } from './envelope.ts';
import { encodeFrame, FrameFlag, FrameType, frameHeaderBytes } from './frame.ts';
import { TtrpcServer } from './server.ts';
import { type Handler, method } from './service.ts';
import { StatusCode, TtrpcError } from './status.ts';
import {
  decodeText,
  encodeText,
  RawPeer,
  requestFrame,
  socketPath,
  textCodec,
  textRequest,
} from './test-peer.ts';
import { connect, echo, failsWith, type Held, serve } from './test-server.ts';

test('1000 calls pass while a call is held on the same connection, under both service names', async (t) => {
  const { path, nextHeld } = await serve(t);
  const client = await connect(t, path);
  const wait = client.call(echo, 'Hold', textCodec, 'wait');
  const held = await nextHeld();
  const texts = Array.from({ length: 1000 }, (_, index) => `call ${index}`);
  const replies = await Promise.all(
    texts.map((text, index) => client.call(index % 2 === 0 ? echo : 'test.v2.Echo', 'Say', textCodec, text)),
  );
  assert.deepEqual(replies, texts);
  held.resolve('exited');
  assert.equal(await wait, 'exited');
});

test('calls run at once and are answered as they end, not as they came', async (t) => {
  const { path, nextHeld } = await serve(t);
  const peer = await RawPeer.connect(t, path);
  for (const id of [1, 3, 5]) peer.send(requestFrame(id, textRequest(echo, 'Hold', `${id}`)));
  const all = [await nextHeld(), await nextHeld(), await nextHeld()];
  for (const held of all.reverse()) {
    held.resolve(`done ${held.text}`);
    const reply = await peer.reply();
    assert.deepEqual([reply.streamId, decodeText(reply.payload)], [Number(held.text), `done ${held.text}`]);
  }
});

test('an unknown service or method is Unimplemented and named', async (t) => {
  const { path } = await serve(t);
  const client = await connect(t, path);
  await assert.rejects(
    client.call('test.v9.Echo', 'Say', textCodec, ''),
    failsWith(StatusCode.Unimplemented, /"test\.v9\.Echo"/),
  );
  for (const name of ['Nope', 'constructor', '__proto__', '']) {
    await assert.rejects(
      client.call(echo, name, textCodec, ''),
      failsWith(StatusCode.Unimplemented, new RegExp(`"test\\.v1\\.Echo" has no method "${name}"`)),
    );
  }
});

test('a frame over the limit is answered with ResourceExhausted, one at the limit served', async (t) => {
  const fixed = encodeRequest(textRequest(echo, 'Say', 'x')).length - 1;
  const limit = fixed + 100;
  const { path } = await serve(t, { maxFrameBytes: limit });
  const peer = await RawPeer.connect(t, path);
  for (const [id, length, code] of [
    [1, 99, undefined],
    [3, 100, undefined],
    [5, 101, StatusCode.ResourceExhausted],
    [7, 100, undefined],
  ] as const) {
    peer.send(requestFrame(id, textRequest(echo, 'Say', 'x'.repeat(length))));
    const reply = await peer.reply();
    assert.deepEqual([reply.streamId, reply.status?.code], [id, code]);
    assert.equal(decodeText(reply.payload).length, code === undefined ? length : 0);
  }
  assert.ok(!peer.socket.destroyed);
});

test('a reply over the limit is answered with ResourceExhausted', async (t) => {
  const long = async (text: string): Promise<string> => 'x'.repeat(Number(text));
  const { path } = await serve(t, { maxFrameBytes: 1024 }, { Long: long });
  const client = await connect(t, path);
  // Two bytes of tag and two of length, twice: 1018 characters make a body of 1024 bytes.
  assert.equal((await client.call(echo, 'Long', textCodec, '1018')).length, 1018);
  await assert.rejects(
    client.call(echo, 'Long', textCodec, '1019'),
    failsWith(StatusCode.ResourceExhausted, /1025 bytes exceeds the limit of 1024 bytes/),
  );
});

test('stream ids that are even or do not grow are InvalidArgument, and the connection goes on', async (t) => {
  const { path } = await serve(t);
  const peer = await RawPeer.connect(t, path);
  for (const [id, code] of [
    [0, StatusCode.InvalidArgument],
    [2, StatusCode.InvalidArgument],
    [5, undefined],
    [5, StatusCode.InvalidArgument],
    [3, StatusCode.InvalidArgument],
    [0xffff_ffff, undefined],
    [7, StatusCode.InvalidArgument],
  ] as const) {
    peer.send(requestFrame(id, textRequest(echo, 'Say', 'x')));
    const reply = await peer.reply();
    assert.deepEqual([reply.streamId, reply.status?.code], [id, code]);
  }
});

test('malformed envelopes and payloads are InvalidArgument, and the connection goes on', async (t) => {
  const { path } = await serve(t);
  const peer = await RawPeer.connect(t, path);
  peer.send(encodeFrame(FrameType.Request, 1, Buffer.from('0aff', 'hex')));
  const envelope = await peer.reply();
  assert.equal(envelope.status?.code, StatusCode.InvalidArgument);
  assert.match(envelope.status.message, /malformed ttrpc request envelope/);
  peer.send(requestFrame(3, { ...textRequest(echo, 'Say'), payload: Buffer.from('0aff', 'hex') }));
  const payload = await peer.reply();
  assert.equal(payload.status?.code, StatusCode.InvalidArgument);
  assert.match(payload.status.message, /malformed request of test\.v1\.Echo\/Say/);
  peer.send(requestFrame(5, textRequest(echo, 'Say', 'still here')));
  assert.equal(decodeText((await peer.reply()).payload), 'still here');
});

test('frames of unknown types are skipped; a stream is Unimplemented and its data skipped', async (t) => {
  const { path } = await serve(t, { maxFrameBytes: 1000 });
  const peer = await RawPeer.connect(t, path);
  peer.send(encodeFrame(9, 1, Buffer.from('anything')));
  peer.send(encodeFrame(200, 2, Buffer.alloc(2000)));
  peer.send(requestFrame(1, textRequest(echo, 'Say'), FrameFlag.RemoteOpen));
  const refused = await peer.reply();
  assert.deepEqual([refused.streamId, refused.status?.code], [1, StatusCode.Unimplemented]);
  assert.match(refused.status?.message ?? '', /"test\.v1\.Echo", method "Say": streaming is not supported/);
  peer.send(encodeFrame(FrameType.Data, 1, encodeText('more')));
  peer.send(encodeFrame(FrameType.Data, 1, new Uint8Array(0), FrameFlag.RemoteClosed | FrameFlag.NoData));
  peer.send(requestFrame(3, textRequest(echo, 'Say', 'next')));
  const reply = await peer.reply();
  assert.deepEqual([reply.streamId, decodeText(reply.payload)], [3, 'next']);
});

test('a passed deadline aborts the signal and is answered; the late result is dropped', async (t) => {
  const { path, nextHeld } = await serve(t);
  const peer = await RawPeer.connect(t, path);
  peer.send(requestFrame(1, textRequest(echo, 'Hold', '', { timeoutNano: 1_000_000n })));
  const { context, resolve } = await nextHeld();
  assert.ok(context.deadline !== undefined && context.deadline <= performance.now() + 1);
  const reply = await peer.reply();
  assert.deepEqual([reply.streamId, reply.status?.code], [1, StatusCode.DeadlineExceeded]);
  assert.equal(reply.payload.length, 0);
  assert.ok(context.signal.aborted && context.signal.reason instanceof TtrpcError);
  assert.equal(context.signal.reason.code, StatusCode.DeadlineExceeded);
  resolve('too late');
  peer.send(requestFrame(3, textRequest(echo, 'Say', 'next')));
  assert.equal((await peer.reply()).streamId, 3);
});

test('a budget beyond 2^53 ns leaves the call alone, one below zero ends it at once', async (t) => {
  const { path, nextHeld } = await serve(t);
  const peer = await RawPeer.connect(t, path);
  peer.send(requestFrame(1, textRequest(echo, 'Hold', '', { timeoutNano: 2n ** 63n - 1n })));
  const { context, resolve } = await nextHeld();
  assert.ok((context.deadline ?? 0) > 2 ** 43);
  peer.send(requestFrame(3, textRequest(echo, 'Hold', '', { timeoutNano: -1n })));
  const late = await peer.reply();
  assert.deepEqual([late.streamId, late.status?.code], [3, StatusCode.DeadlineExceeded]);
  assert.ok(!context.signal.aborted);
  resolve('done');
  assert.equal((await peer.reply()).streamId, 1);
});

test('when the connection closes, the signals of its calls abort and theirs only', async (t) => {
  const { path, nextHeld } = await serve(t);
  const [leaving, staying] = [await RawPeer.connect(t, path), await RawPeer.connect(t, path)];
  staying.send(requestFrame(1, textRequest(echo, 'Hold')));
  const kept = await nextHeld();
  leaving.send(requestFrame(1, textRequest(echo, 'Hold')));
  const { context, reject } = await nextHeld();
  const aborted = once(context.signal, 'abort');
  leaving.socket.end();
  await aborted;
  assert.equal(context.signal.reason.message, 'ttrpc: connection closed');
  reject(context.signal.reason);
  assert.ok(!kept.context.signal.aborted);
  kept.resolve('kept');
  assert.equal(decodeText((await staying.reply()).payload), 'kept');
});

test('metadata reaches the handler', async (t) => {
  const show: Handler<string, string> = async (key, context) => (context.metadata.get(key) ?? []).join('|');
  const { path } = await serve(t, {}, { Show: show });
  const client = await connect(t, path);
  const metadata = new Map([['Containerd-Namespace-Ttrpc', ['k8s.io', 'ünïcode', '']]]);
  const call = client.call(echo, 'Show', textCodec, 'containerd-namespace-ttrpc', { metadata });
  assert.equal(await call, 'k8s.io|ünïcode|');
  assert.equal(await client.call(echo, 'Show', textCodec, 'containerd-namespace-ttrpc'), '');
});

test('calls at work are limited by number and by bytes until their handlers are done', async (t) => {
  const { path, nextHeld } = await serve(t, { maxConcurrentCalls: 2, maxHeldRequestBytes: 1000 });
  const peer = await RawPeer.connect(t, path);
  peer.send(requestFrame(1, textRequest(echo, 'Hold', '', { timeoutNano: 1_000_000n })));
  const first = await nextHeld();
  assert.equal((await peer.reply()).status?.code, StatusCode.DeadlineExceeded);
  peer.send(requestFrame(3, textRequest(echo, 'Hold', 'x'.repeat(600))));
  const second = await nextHeld();
  peer.send(requestFrame(5, textRequest(echo, 'Say')));
  const many = await peer.reply();
  assert.deepEqual([many.streamId, many.status?.code], [5, StatusCode.ResourceExhausted]);
  assert.match(many.status?.message ?? '', /2 calls at work/);
  first.resolve('');
  await nextTurn();
  peer.send(requestFrame(7, textRequest(echo, 'Say', 'x'.repeat(400))));
  const large = await peer.reply();
  assert.deepEqual([large.streamId, large.status?.code], [7, StatusCode.ResourceExhausted]);
  assert.match(large.status?.message ?? '', /1000 bytes of requests at work/);
  second.resolve('');
  assert.equal((await peer.reply()).streamId, 3);
  await nextTurn();
  peer.send(requestFrame(9, textRequest(echo, 'Say', 'x'.repeat(400))));
  assert.equal((await peer.reply()).status, undefined);
});

test('toStatus decides what the peer is told; the reply carries no payload', async (t) => {
  const told: string[] = [];
  const fail: Handler<string, string> = async (text) => {
    throw { own: text };
  };
  const { path } = await serve(
    t,
    {
      toStatus: (thrown) => {
        const { own } = thrown as { readonly own: string };
        if (own === 'broken') throw new Error('toStatus is broken');
        const [code, ...message] = own.split(' ');
        return { code: Number(code), message: message.join(' ') };
      },
      onError: (_error, where) => told.push(where),
    },
    { Fail: fail },
  );
  const peer = await RawPeer.connect(t, path);
  let id = -1;
  for (const [text, code, message] of [
    ['5 not here', StatusCode.NotFound, 'not here'],
    ['0 no success', StatusCode.Unknown, 'no success'],
    ['99 odd', StatusCode.Unknown, 'odd'],
    ['broken', StatusCode.Internal, 'the error could not be described'],
    [`9 ${'y'.repeat(100_000)}`, StatusCode.FailedPrecondition, 'y'.repeat(16 * 1024)],
  ] as const) {
    id += 2;
    peer.send(requestFrame(id, textRequest(echo, 'Fail', text)));
    const reply = await peer.reply();
    assert.deepEqual(reply.status, { code, message, details: [] });
    assert.equal(reply.payload.length, 0);
  }
  const where = 'service "test.v1.Echo", method "Fail"';
  assert.deepEqual(told, [where, where, `toStatus for ${where}`, where]);
});

test('without toStatus a TtrpcError is told as it is, anything else as Unknown', async (t) => {
  const fail: Handler<string, string> = async (text) => {
    throw text === 'own' ? new TtrpcError(StatusCode.Aborted, 'stopped') : new Error('no idea');
  };
  const { path } = await serve(t, {}, { Fail: fail });
  const client = await connect(t, path);
  await assert.rejects(
    client.call(echo, 'Fail', textCodec, 'own'),
    failsWith(StatusCode.Aborted, /^stopped$/),
  );
  await assert.rejects(client.call(echo, 'Fail', textCodec, ''), failsWith(StatusCode.Unknown, /^no idea$/));
});

test('a peer that does not read stops being read, and gets every reply once it reads again', async (t) => {
  const payload = 'x'.repeat(64 * 1024);
  const server = new TtrpcServer({ pauseReadsAboveBytes: 256 * 1024, closeGraceMs: 0 });
  server.register(echo, new Map([['Long', method(textCodec, async () => payload)]]));
  const path = socketPath(t);
  let accepted: Socket | undefined;
  const listener = createServer((socket) => {
    accepted = socket;
    server.handleConnection(socket);
  });
  await new Promise<void>((resolve) => listener.listen(path, resolve));
  t.after(async () => {
    await server.close();
    listener.close();
  });
  const peer = await RawPeer.connect(t, path);
  peer.socket.pause();
  const calls = 2000;
  const padding = 'p'.repeat(1000);
  for (let index = 0; index < calls; index += 1) {
    peer.send(requestFrame(2 * index + 1, textRequest(echo, 'Long', padding)));
  }
  while (accepted?.isPaused() !== true) await nextTurn();
  // What one chunk of requests asks for may still come on top of the limit; the other requests wait in the kernel.
  const received = accepted.bytesRead;
  assert.ok(received < (calls / 2) * padding.length, `${received} bytes read`);
  assert.ok(accepted.writableLength < 256 * 1024 + 70 * (payload.length + 100), `${accepted.writableLength}`);
  peer.socket.resume();
  const seen = new Set<number>();
  for (let index = 0; index < calls; index += 1) {
    const reply = await peer.reply();
    assert.equal(reply.status, undefined);
    seen.add(reply.streamId);
  }
  assert.equal(seen.size, calls);
});

test('replies that would pile up beyond the limit shrink to a status', async (t) => {
  const long = 'x'.repeat(1024 * 1024);
  const { path, nextHeld } = await serve(t, { maxUnsentBytes: 2 * 1024 * 1024 });
  const peer = await RawPeer.connect(t, path);
  peer.socket.pause();
  const held: Held[] = [];
  for (let index = 0; index < 8; index += 1) {
    peer.send(requestFrame(2 * index + 1, textRequest(echo, 'Hold')));
    held.push(await nextHeld());
  }
  for (const call of held) call.resolve(long);
  await nextTurn();
  peer.socket.resume();
  const codes: (number | undefined)[] = [];
  for (const _ of held) codes.push((await peer.reply()).status?.code);
  assert.equal(codes[0], undefined);
  assert.equal(codes.at(-1), StatusCode.ResourceExhausted);
  peer.send(requestFrame(101, textRequest(echo, 'Say', 'alive')));
  assert.equal(decodeText((await peer.reply()).payload), 'alive');
});

test('a header alone holds no call', async (t) => {
  const { path } = await serve(t);
  const peer = await RawPeer.connect(t, path);
  const frame = requestFrame(1, textRequest(echo, 'Say', 'slow'));
  peer.send(frame.subarray(0, frameHeaderBytes));
  const other = await connect(t, path);
  assert.equal(await other.call(echo, 'Say', textCodec, 'quick'), 'quick');
  peer.send(frame.subarray(frameHeaderBytes));
  assert.equal(decodeText((await peer.reply()).payload), 'slow');
});
