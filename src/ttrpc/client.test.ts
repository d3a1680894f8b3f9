import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { TtrpcClient, type TtrpcClientOptions } from './client.ts';
import { decodeRequest, encodeResponse } from './envelope.ts';
import { encodeFrame, FrameType } from './frame.ts';
import { StatusCode, TtrpcError } from './status.ts';
import { decodeText, encodeText, RawPeer, socketPath, textCodec } from './test-peer.ts';
import { echo, failsWith } from './test-server.ts';

const empty = new Uint8Array(0);

/** A client and the raw peer that plays its server. */
async function pair(
  t: TestContext,
  options: TtrpcClientOptions = {},
): Promise<{ client: TtrpcClient; peer: RawPeer }> {
  const path = socketPath(t);
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(path, resolve));
  const accepted = once(listener, 'connection');
  const client = await TtrpcClient.connect(path, options);
  const [socket] = (await accepted) as [Socket];
  const peer = new RawPeer(socket);
  t.after(() => {
    client.close();
    socket.destroy();
    listener.close();
  });
  return { client, peer };
}

/** The next request as the server sees it. */
async function request(peer: RawPeer): Promise<{ id: number; text: string; timeoutNano: bigint }> {
  const { header, body } = await peer.frame();
  assert.deepEqual([header.type, header.flags], [FrameType.Request, 0]);
  const { payload, timeoutNano } = decodeRequest(body);
  return { id: header.streamId, text: decodeText(payload), timeoutNano };
}

function answer(peer: RawPeer, id: number, text: string): void {
  const body = encodeResponse({ status: undefined, payload: encodeText(text) });
  peer.send(encodeFrame(FrameType.Response, id, body));
}

function answerStatus(
  peer: RawPeer,
  id: number,
  code: number,
  message: string,
  details: Uint8Array[] = [],
): void {
  const body = encodeResponse({ status: { code, message, details }, payload: empty });
  peer.send(encodeFrame(FrameType.Response, id, body));
}

test('the bytes on the socket are those the Go client writes', async (t) => {
  const { client, peer } = await pair(t);
  const call = client.call(echo, 'Say', textCodec, 'hello');
  const { header, body } = await peer.frame();
  assert.equal(
    encodeFrame(header.type, header.streamId, body, header.flags).toString('hex'),
    '0000001c0000000101000a0c746573742e76312e4563686f12035361791a070a0568656c6c6f',
  );
  peer.send(Buffer.from('0000000900000001020012070a0568656c6c6f', 'hex'));
  assert.equal(await call, 'hello');
});

test('stream ids are odd and grow, replies find their calls in any order', async (t) => {
  const { client, peer } = await pair(t);
  const calls = ['a', 'b', 'c'].map((text) => client.call(echo, 'Say', textCodec, text));
  const seen = [await request(peer), await request(peer), await request(peer)];
  assert.deepEqual(
    seen.map(({ id, text }) => [id, text]),
    [
      [1, 'a'],
      [3, 'b'],
      [5, 'c'],
    ],
  );
  for (const { id, text } of seen.reverse()) answer(peer, id, `re ${text}`);
  assert.deepEqual(await Promise.all(calls), ['re a', 're b', 're c']);
});

test('a status is thrown with its code, message and details', async (t) => {
  const { client, peer } = await pair(t);
  const call = client.call(echo, 'Say', textCodec, '');
  answerStatus(peer, (await request(peer)).id, 5, 'no such task', [Buffer.from('0a0161', 'hex')]);
  await assert.rejects(call, (error) => {
    assert.ok(failsWith(StatusCode.NotFound, /^no such task$/)(error) && error instanceof TtrpcError);
    assert.deepEqual(
      error.details.map((detail) => Buffer.from(detail).toString('hex')),
      ['0a0161'],
    );
    return true;
  });
  const odd = client.call(echo, 'Say', textCodec, '');
  answerStatus(peer, (await request(peer)).id, 1234, 'odd');
  await assert.rejects(odd, failsWith(StatusCode.Unknown, /^odd$/));
  const fine = client.call(echo, 'Say', textCodec, '');
  answerStatus(peer, (await request(peer)).id, 0, '');
  assert.equal(await fine, '');
});

test('the budget is sent in nanoseconds and enforced here; the late reply is dropped', async (t) => {
  const { client, peer } = await pair(t);
  const call = client.call(echo, 'Say', textCodec, '', { timeoutMs: 1.5 });
  // Expected from the start: on a busy machine the budget is over before the request has been read.
  const rejected = assert.rejects(
    call,
    failsWith(StatusCode.DeadlineExceeded, /"test\.v1\.Echo\/Say".* 1\.5 ms/),
  );
  const late = await request(peer);
  assert.equal(late.timeoutNano, 1_500_000n);
  await rejected;
  const next = client.call(echo, 'Say', textCodec, 'next', { timeoutMs: Number.POSITIVE_INFINITY });
  const { id, timeoutNano } = await request(peer);
  assert.equal(timeoutNano, 0n);
  answer(peer, late.id, 'too late');
  answer(peer, id, 'in time');
  assert.equal(await next, 'in time');
});

test('budgets at the edges: beyond an int64, exact above 2^53, passed, not a number', async (t) => {
  const { client, peer } = await pair(t);
  for (const [timeoutMs, timeoutNano] of [
    [Number.MAX_VALUE, 2n ** 63n - 1n],
    [9_007_199_255.5, 9_007_199_255_500_000n],
    [1e-9, 1n],
  ] as const) {
    const call = client.call(echo, 'Say', textCodec, '', { timeoutMs });
    call.catch(() => {});
    assert.equal((await request(peer)).timeoutNano, timeoutNano);
  }
  for (const timeoutMs of [0, -5]) {
    const call = client.call(echo, 'Say', textCodec, '', { timeoutMs });
    await assert.rejects(call, failsWith(StatusCode.DeadlineExceeded, /within/));
  }
  const call = client.call(echo, 'Say', textCodec, '', { timeoutMs: Number.NaN });
  await assert.rejects(call, failsWith(StatusCode.InvalidArgument, /timeoutMs/));
});

test('an aborted call is Canceled, before and after it is sent', async (t) => {
  const { client, peer } = await pair(t);
  const early = client.call(echo, 'Say', textCodec, '', { signal: AbortSignal.abort() });
  await assert.rejects(early, failsWith(StatusCode.Canceled, /aborted/));
  const controller = new AbortController();
  const call = client.call(echo, 'Say', textCodec, 'first', { signal: controller.signal });
  const { id, text } = await request(peer);
  assert.equal(text, 'first');
  controller.abort('changed my mind');
  await assert.rejects(call, { code: StatusCode.Canceled, cause: 'changed my mind' });
  const next = client.call(echo, 'Say', textCodec, '');
  answer(peer, id, 'late');
  answer(peer, (await request(peer)).id, 'next');
  assert.equal(await next, 'next');
});

test('when the server leaves, calls fail with Unavailable and onClose is told once', async (t) => {
  let closes = 0;
  let told = (): void => {};
  const closed = new Promise<void>((resolve) => {
    told = resolve;
  });
  const onClose = (): void => {
    closes += 1;
    told();
  };
  const { client, peer } = await pair(t, { onClose });
  const calls = [1, 2].map(() => client.call(echo, 'Say', textCodec, ''));
  await request(peer);
  peer.socket.destroy();
  for (const call of calls) {
    await assert.rejects(call, failsWith(StatusCode.Unavailable, /^ttrpc: connection closed$/));
  }
  await closed;
  assert.ok(client.closed);
  await assert.rejects(client.call(echo, 'Say', textCodec, ''), failsWith(StatusCode.Unavailable, /closed/));
  client.close();
  assert.equal(closes, 1);
});

test('close ends the connection and the calls that wait on it', async (t) => {
  const { client, peer } = await pair(t);
  const call = client.call(echo, 'Say', textCodec, '');
  client.close();
  assert.ok(client.closed);
  await assert.rejects(call, failsWith(StatusCode.Unavailable, /^ttrpc: connection closed$/));
  await peer.ended;
});

test('a request over the limit is refused here, and the connection lives on', async (t) => {
  const { client, peer } = await pair(t, { maxFrameBytes: 100 });
  await assert.rejects(
    client.call(echo, 'Say', textCodec, 'x'.repeat(100)),
    failsWith(StatusCode.ResourceExhausted, /exceeds the limit of 100 bytes/),
  );
  const call = client.call(echo, 'Say', textCodec, 'short');
  const { id } = await request(peer);
  assert.equal(id, 1);
  answer(peer, id, 'fine');
  assert.equal(await call, 'fine');
});

test('a reply over the limit, malformed, or of another type fails its call only', async (t) => {
  const { client, peer } = await pair(t, { maxFrameBytes: 100 });
  const calls = ['large', 'envelope', 'payload', 'good'].map((text) =>
    client.call(echo, 'Say', textCodec, text),
  );
  const ids = [await request(peer), await request(peer), await request(peer), await request(peer)].map(
    ({ id }) => id,
  );
  const [large = 0, envelope = 0, payload = 0, good = 0] = ids;
  peer.send(encodeFrame(FrameType.Data, good, Buffer.from('not a reply')));
  peer.send(encodeFrame(FrameType.Response, large, Buffer.alloc(101)));
  peer.send(encodeFrame(FrameType.Response, envelope, Buffer.from('0aff', 'hex')));
  peer.send(encodeFrame(FrameType.Response, payload, Buffer.from('12020aff', 'hex')));
  answer(peer, good, 'good');
  const expected = [StatusCode.ResourceExhausted, StatusCode.Internal, StatusCode.Internal];
  for (const [index, code] of expected.entries()) {
    await assert.rejects(calls[index] ?? Promise.resolve(), failsWith(code, /reply|response/));
  }
  assert.equal(await calls[3], 'good');
});

test('a request that cannot be encoded is InvalidArgument', async (t) => {
  const { client } = await pair(t);
  const broken = {
    ...textCodec,
    requestSerialize: (): Uint8Array => {
      throw new Error('id: string expected');
    },
  };
  await assert.rejects(
    client.call(echo, 'Say', broken, ''),
    failsWith(StatusCode.InvalidArgument, /test\.v1\.Echo\/Say cannot be encoded: id: string expected/),
  );
});

test('requests do not pile up before a server that does not read', async (t) => {
  const maxUnsentBytes = 8 * 1024 * 1024;
  const { client, peer } = await pair(t, { maxUnsentBytes });
  peer.socket.pause();
  const text = 'x'.repeat(1024 * 1024);
  const calls = Array.from({ length: 20 }, () => client.call(echo, 'Say', textCodec, text));
  const settled = Promise.allSettled(calls);
  await assert.rejects(calls[19] ?? Promise.resolve(), failsWith(StatusCode.ResourceExhausted, /not sent/));
  client.close();
  const codes = (await settled).map((result) =>
    result.status === 'rejected' ? result.reason.code : undefined,
  );
  assert.equal(codes[0], StatusCode.Unavailable);
  assert.ok(codes.filter((code) => code === StatusCode.Unavailable).length <= 12);
});

test('connecting to nobody is Unavailable, with the reason', async (t) => {
  const path = socketPath(t);
  await assert.rejects(TtrpcClient.connect(path), (error) => {
    assert.ok(failsWith(StatusCode.Unavailable, /cannot connect to .*ENOENT/)(error));
    assert.equal((error as { cause: { code: string } }).cause.code, 'ENOENT');
    return true;
  });
  await assert.rejects(TtrpcClient.connect('relative'), failsWith(StatusCode.InvalidArgument, /absolute/));
});
