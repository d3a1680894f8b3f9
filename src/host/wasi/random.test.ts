import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ShimError } from '../../error.ts';
import { createRandom, maxRandomBytes } from './random.ts';

const interfaces = createRandom();

describe('createRandom', () => {
  const random = interfaces.get('wasi:random/random') as {
    getRandomBytes(length: bigint): Uint8Array;
    getRandomU64(): bigint;
  };

  it('gives as many bytes as asked for, up to its limit', () => {
    assert.equal(random.getRandomBytes(0n).length, 0);
    assert.equal(random.getRandomBytes(BigInt(maxRandomBytes)).length, maxRandomBytes);
    assert.notDeepEqual(random.getRandomBytes(32n), random.getRandomBytes(32n));
    assert.notEqual(random.getRandomU64(), random.getRandomU64());
  });

  it('traps above the limit before it allocates', () => {
    for (const length of [BigInt(maxRandomBytes) + 1n, 2n ** 64n - 1n]) {
      assert.throws(() => random.getRandomBytes(length), ShimError);
    }
    const insecure = interfaces.get('wasi:random/insecure') as {
      getInsecureRandomBytes(length: bigint): Uint8Array;
      getInsecureRandomU64(): bigint;
    };
    assert.throws(() => insecure.getInsecureRandomBytes(2n ** 40n), /limit "maxRandomBytes"/);
    assert.equal(typeof insecure.getInsecureRandomU64(), 'bigint');
  });

  it('gives a seed of two numbers', () => {
    const { insecureSeed } = interfaces.get('wasi:random/insecure-seed') as { insecureSeed(): bigint[] };
    assert.deepEqual(
      insecureSeed().map((part) => typeof part),
      ['bigint', 'bigint'],
    );
  });
});
