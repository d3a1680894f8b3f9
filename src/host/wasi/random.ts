import { ShimError } from '../../error.ts';
import { nodeCrypto } from '../../node-crypto.ts';

/** Bytes that one call of `get-random-bytes` may ask for; more traps the guest (wasmtime traps as well). */
export const maxRandomBytes = 1024 * 1024;

function randomBytes(length: bigint): Uint8Array {
  if (length > BigInt(maxRandomBytes)) {
    throw new ShimError(
      'resource-exhausted',
      `the guest asked for ${length} random bytes at once, the limit "maxRandomBytes" is ${maxRandomBytes}: ask for less, several times`,
    );
  }
  return nodeCrypto().randomFillSync(new Uint8Array(Number(length)));
}

function randomU64(): bigint {
  return nodeCrypto().randomFillSync(new BigUint64Array(1))[0] ?? 0n;
}

function insecureSeed(): readonly [bigint, bigint] {
  return [randomU64(), randomU64()];
}

const interfaces: ReadonlyMap<string, object> = new Map<string, object>([
  ['wasi:random/random', { getRandomBytes: randomBytes, getRandomU64: randomU64 }],
  ['wasi:random/insecure', { getInsecureRandomBytes: randomBytes, getInsecureRandomU64: randomU64 }],
  ['wasi:random/insecure-seed', { insecureSeed }],
]);

/**
 * wasi:random 0.2. The insecure interfaces answer from the kernel's generator too: nothing is gained by a weaker one.
 * Nothing here belongs to an instance, so all of them share one set of objects.
 */
export function createRandom(): ReadonlyMap<string, object> {
  return interfaces;
}
