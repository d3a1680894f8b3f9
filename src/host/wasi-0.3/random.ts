import { createRandom } from '../wasi/random.ts';

type Random = {
  readonly getRandomBytes: (length: bigint) => Uint8Array;
  readonly getRandomU64: () => bigint;
};

/** Fewer bytes than asked for are an answer in 0.3; one call of 0.2 gives at most this many. */
const bytesPerCall = 64n * 1024n;

/** wasi:random 0.3 over the generator of 0.2. */
export function createRandom03(): ReadonlyMap<string, object> {
  const { getRandomBytes, getRandomU64 } = createRandom().get('wasi:random/random') as Random;
  const bytes = (most: bigint): Uint8Array => getRandomBytes(most > bytesPerCall ? bytesPerCall : most);
  // The same at each call of one instance, as 0.3 asks for.
  let seed: readonly [bigint, bigint] | undefined;
  const getInsecureSeed = (): readonly [bigint, bigint] => {
    seed ??= [getRandomU64(), getRandomU64()];
    return seed;
  };
  return new Map<string, object>([
    ['wasi:random/random', { getRandomBytes: bytes, getRandomU64 }],
    ['wasi:random/insecure', { getInsecureRandomBytes: bytes, getInsecureRandomU64: getRandomU64 }],
    ['wasi:random/insecure-seed', { getInsecureSeed }],
  ]);
}
