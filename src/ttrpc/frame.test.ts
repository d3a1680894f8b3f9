import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeFrame, type FrameEvent, FrameParser, frameHeaderBytes } from './frame.ts';
import { seededRandom } from './test-peer.ts';

const body = Buffer.from('0123456789abcdef');

function brief(events: readonly FrameEvent[]): unknown[] {
  return events.map((event) => [
    event.kind,
    event.header.type,
    event.header.streamId,
    event.header.flags,
    event.kind === 'frame' ? event.body.toString() : event.header.bodyBytes,
  ]);
}

test('a frame is ten bytes of header, big endian, and the body', () => {
  assert.equal(
    encodeFrame(1, 0x01020304, Buffer.from('hi'), 2).toString('hex'),
    '00000002010203040102'.concat('6869'),
  );
});

test('frames cut at every pair of byte boundaries come out whole', () => {
  const stream = Buffer.concat([
    encodeFrame(1, 1, body),
    encodeFrame(1, 3, new Uint8Array(0)),
    encodeFrame(2, 5, body, 4),
  ]);
  const whole = brief(new FrameParser().push(stream));
  assert.deepEqual(whole, [
    ['frame', 1, 1, 0, body.toString()],
    ['frame', 1, 3, 0, ''],
    ['frame', 2, 5, 4, body.toString()],
  ]);
  for (let first = 0; first <= stream.length; first += 1) {
    for (let second = first; second <= stream.length; second += 1) {
      const parser = new FrameParser();
      const parts = [stream.subarray(0, first), stream.subarray(first, second), stream.subarray(second)];
      assert.deepEqual(
        brief(parts.flatMap((part) => parser.push(part))),
        whole,
        `cut at ${first}, ${second}`,
      );
    }
  }
});

test('a body that comes byte by byte comes out whole', () => {
  const long = seededRandom(7).bytes(50_000);
  const parser = new FrameParser();
  const events: FrameEvent[] = [];
  for (const byte of encodeFrame(1, 1, long)) events.push(...parser.push(Buffer.of(byte)));
  assert.equal(events.length, 1);
  assert.ok(events[0]?.kind === 'frame' && events[0].body.equals(long));
  assert.equal(parser.bufferedBytes, 0);
});

test('bodies do not share memory with the chunk they came in', () => {
  const chunk = encodeFrame(1, 1, body);
  const [event] = new FrameParser().push(chunk);
  chunk.fill(0);
  assert.ok(event?.kind === 'frame' && event.body.equals(body));
});

test('the limit holds to the byte, and an oversized frame does not harm the next', () => {
  const limit = 16;
  const stream = Buffer.concat(
    [limit - 1, limit, limit + 1, limit].map((size, index) =>
      encodeFrame(1, 2 * index + 1, Buffer.alloc(size, 'x')),
    ),
  );
  const expected = [
    ['frame', 1, 1, 0, 'x'.repeat(15)],
    ['frame', 1, 3, 0, 'x'.repeat(16)],
    ['oversized', 1, 5, 0, 17],
    ['frame', 1, 7, 0, 'x'.repeat(16)],
  ];
  assert.deepEqual(brief(new FrameParser(limit).push(stream)), expected);
  const bytewise = new FrameParser(limit);
  assert.deepEqual(
    [...stream].flatMap((byte) => brief(bytewise.push(Buffer.of(byte)))),
    expected,
  );
});

test('the longest length a header can announce is swallowed without being held', () => {
  const parser = new FrameParser();
  const header = encodeFrame(1, 1, new Uint8Array(0));
  header.writeUInt32BE(0xffff_ffff, 0);
  assert.deepEqual(parser.push(header), []);
  const chunk = Buffer.alloc(16 * 1024 * 1024);
  for (let left = 0xffff_ffff; left > 0; left -= chunk.length) {
    const events = parser.push(chunk.subarray(0, left));
    assert.equal(parser.bufferedBytes, 0);
    assert.equal(events.length, left <= chunk.length ? 1 : 0);
  }
  assert.deepEqual(brief(parser.push(encodeFrame(1, 3, body))), [['frame', 1, 3, 0, body.toString()]]);
});

test('an announced body is not reserved before it arrives', () => {
  const parser = new FrameParser();
  parser.push(encodeFrame(1, 1, Buffer.alloc(4 * 1024 * 1024)).subarray(0, frameHeaderBytes + 1));
  assert.ok(parser.bufferedBytes <= 4096, `${parser.bufferedBytes} bytes held for one`);
});

test('random bytes never hold more than twice what came, nor more than the limit', () => {
  const limit = 100_000;
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seededRandom(seed);
    const parser = new FrameParser(limit);
    let pushed = 0;
    for (let round = 0; round < 20; round += 1) {
      const chunk = random.bytes(random.below(600));
      // Small lengths now and then, or nearly all frames would be oversized.
      if (chunk.length >= frameHeaderBytes && random.below(2) === 0)
        chunk.writeUInt32BE(random.below(200_000), 0);
      parser.push(chunk);
      pushed += chunk.length;
      const bound = Math.min(limit, Math.max(4096, 2 * pushed)) + frameHeaderBytes;
      assert.ok(parser.bufferedBytes <= bound, `seed ${seed}: ${parser.bufferedBytes} > ${bound}`);
    }
  }
});
