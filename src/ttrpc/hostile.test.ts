/** What a peer may throw at the server: it must go on serving others, and hold little. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TtrpcClient } from './client.ts';
import { encodeFrame, FrameType } from './frame.ts';
import { TtrpcServer } from './server.ts';
import { method } from './service.ts';
import { RawPeer, requestFrame, seededRandom, socketPath, textCodec, textRequest } from './test-peer.ts';

const echo = 'test.v1.Echo';

test('random bytes, random frames and damaged requests leave the server serving', async (t) => {
  const errors: unknown[] = [];
  const server = new TtrpcServer({ closeGraceMs: 0, onError: (error) => errors.push(error) });
  server.register(echo, new Map([['Say', method(textCodec, async (text) => text)]]));
  const path = socketPath(t);
  await server.listen(path);
  t.after(() => server.close());
  const good = requestFrame(1, textRequest(echo, 'Say', 'x', { timeoutNano: 1_000_000_000n }));
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = seededRandom(seed);
    const peer = await RawPeer.connect(t, path);
    for (let round = 0; round < 40; round += 1) {
      switch (random.below(3)) {
        case 0:
          peer.send(random.bytes(random.below(2000)));
          break;
        case 1:
          peer.send(encodeFrame(random.below(5), random.below(2 ** 32), random.bytes(random.below(200))));
          break;
        default: {
          const damaged = Buffer.from(good);
          damaged[random.below(damaged.length)] = random.below(256);
          peer.send(damaged);
        }
      }
    }
    // Half leave politely, half at once.
    if (seed % 2 === 0) peer.socket.end();
    else peer.socket.destroy();
    await peer.ended;
  }
  const client = await TtrpcClient.connect(path);
  assert.equal(await client.call(echo, 'Say', textCodec, 'alive'), 'alive');
  client.close();
  assert.deepEqual(errors, []);
});

test('many peers that announce the longest frame and send little cost little', async (t) => {
  const server = new TtrpcServer({ closeGraceMs: 0 });
  server.register(echo, new Map([['Say', method(textCodec, async (text) => text)]]));
  const path = socketPath(t);
  await server.listen(path);
  t.after(() => server.close());
  const start = encodeFrame(FrameType.Request, 1, Buffer.alloc(4 * 1024 * 1024)).subarray(0, 100);
  const before = process.memoryUsage().arrayBuffers;
  for (let index = 0; index < 200; index += 1) (await RawPeer.connect(t, path)).send(start);
  const client = await TtrpcClient.connect(path);
  assert.equal(await client.call(echo, 'Say', textCodec, 'alive'), 'alive');
  client.close();
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 200 * 256 * 1024, `${grown} bytes for 200 unfinished frames of 4 MiB`);
});
