import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copyOfRange, freeHandedOver, freeOwned, handOver } from './large-bytes.ts';

const large = 64 * 1024;

for (const length of [0, 1, 4096, large, large + 1]) {
  test(`a copy of ${length} bytes has them all, in a buffer of its own`, () => {
    const bytes = Uint8Array.from({ length: length + 20 }, (_value, index) => index % 251);
    const copy = copyOfRange(bytes, 10, length);
    assert.deepEqual(copy, bytes.slice(10, 10 + length));
    assert.equal(copy.buffer.byteLength, length);
    bytes.fill(0);
    assert.equal(copy.at(-1), length === 0 ? undefined : (length + 9) % 251);
    assert.equal(Object.getPrototypeOf(copy), Uint8Array.prototype);
  });
}

test('what is owned is freed when it is large and whole, and kept otherwise', () => {
  const whole = new Uint8Array(large);
  const small = new Uint8Array(100);
  const part = new Uint8Array(large).subarray(1);
  for (const bytes of [whole, small, part]) freeOwned(bytes);
  assert.deepEqual([whole.length, small.length, part.length], [0, 100, large - 1]);
});

test('what was handed over and is read in parts is freed after the last of them', () => {
  const given = handOver(new Uint8Array(large));
  const parts = [given.subarray(0, 5), given.subarray(5, large - 1), given.subarray(large - 1)];
  const lengths = parts.map((part) => {
    freeHandedOver(part);
    return given.length;
  });
  assert.deepEqual(lengths, [large, large, 0]);
});

test('only what was handed over is freed for whoever was given it', () => {
  const given = handOver(new Uint8Array(large));
  const kept = new Uint8Array(large);
  const part = handOver(new Uint8Array(large).subarray(1));
  for (const bytes of [given, kept, part]) freeHandedOver(bytes);
  assert.deepEqual([given.length, kept.length, part.length], [0, large, large - 1]);
});
