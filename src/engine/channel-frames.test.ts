import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeFrame, FrameReader } from './channel-frames.ts';

const messages = [
  { type: 'plain', list: [1, null, true, 'ä€😀'], nested: { empty: {}, none: [] } },
  { type: 'marks', text: '\0', other: '\0n12', key: { '\0b': '\0bAAAA' } },
  { type: 'numbers', soft: 0n, hard: 2n ** 64n - 1n, negative: -5n },
  { type: 'bytes', buffer: Buffer.from([0, 1, 255]), view: new Uint8Array([9, 8, 7, 6]).subarray(1, 3) },
  { type: 'nothing', bytes: new Uint8Array(0) },
];

const asRead = messages.map((message) =>
  Object.fromEntries(
    Object.entries(message).map(([key, value]) => [
      key,
      value instanceof Uint8Array ? Buffer.from(value) : value,
    ]),
  ),
);

test('messages arrive as they were sent, however their bytes are cut', () => {
  const stream = Buffer.concat(messages.map((message) => encodeFrame(message)));
  for (const size of [1, 2, 3, 5, 64, stream.length]) {
    const reader = new FrameReader();
    const read: unknown[] = [];
    for (let at = 0; at < stream.length; at += size)
      read.push(...reader.push(stream.subarray(at, at + size)));
    assert.deepEqual(read, asRead, `in pieces of ${size}`);
  }
});

test('a message that announces more than any may have is refused before its bytes come', () => {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(128 * 1024 ** 2 + 1);
  assert.throws(() => [...new FrameReader().push(head)], {
    code: 'resource-exhausted',
    message: /134217729 bytes, the limit is 134217728/,
  });
});

test('what is not in the form of a message is refused', () => {
  const frame = (text: string): Buffer => {
    const body = Buffer.from(text);
    const head = Buffer.alloc(4);
    head.writeUInt32LE(body.length);
    return Buffer.concat([head, body]);
  };
  for (const text of ['', '{', '"\\u0000x"', '"\\u0000"', '"\\u0000n1e9"', `"\\u0000n${'9'.repeat(21)}"`])
    assert.throws(() => [...new FrameReader().push(frame(text))], { code: 'invalid-argument' }, text);
});
