import { ShimError } from '../../error.ts';

/** Ends the guest: it broke the canonical ABI. */
export function trap(why: string): never {
  throw new ShimError('invalid-component', `the guest broke the component ABI: ${why}`);
}

/** Ends the guest: a host object gave a value its interface does not allow. */
export function hostMismatch(expected: string, value: unknown): never {
  const got = value === null ? 'null' : typeof value;
  throw new ShimError(
    'internal',
    `a host function gave a value of type ${got} where ${expected} is expected`,
  );
}
