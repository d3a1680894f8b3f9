/**
 * The one error type of the project: a closed set of codes, and one table that says what each code means at every
 * border (ttrpc status, exit code, log level).
 */

/** Every way an operation of ours can fail. */
export type ErrorCode =
  | 'invalid-argument'
  | 'invalid-manifest'
  | 'invalid-image'
  | 'invalid-component'
  | 'digest-mismatch'
  | 'not-found'
  | 'already-exists'
  | 'failed-precondition'
  | 'permission-denied'
  | 'unauthenticated'
  | 'unsupported'
  | 'unimplemented'
  | 'resource-exhausted'
  | 'address-in-use'
  | 'deadline-exceeded'
  | 'unavailable'
  | 'data-loss'
  | 'internal';

/** What one code means at each border. */
export type ErrorMeaning = {
  /** ttrpc/gRPC status code (google.rpc.Code). */
  readonly status: number;
  /** Exit code of a command line that ends with this error. */
  readonly exitCode: number;
  readonly logLevel: 'debug' | 'warn' | 'error';
  /** Whose move it is: `user` errors are for the app's author or the operator, `platform` errors are ours. */
  readonly fault: 'user' | 'platform';
};

/** Code → meaning. Status numbers: google.rpc.Code. Exit codes: 64 and up as in sysexits. */
export const errorMeanings: { readonly [code in ErrorCode]: ErrorMeaning } = {
  'invalid-argument': { status: 3, exitCode: 64, logLevel: 'warn', fault: 'user' },
  'invalid-manifest': { status: 3, exitCode: 65, logLevel: 'warn', fault: 'user' },
  'invalid-image': { status: 3, exitCode: 65, logLevel: 'warn', fault: 'user' },
  'invalid-component': { status: 3, exitCode: 65, logLevel: 'warn', fault: 'user' },
  'digest-mismatch': { status: 9, exitCode: 65, logLevel: 'error', fault: 'user' },
  'not-found': { status: 5, exitCode: 66, logLevel: 'debug', fault: 'user' },
  'already-exists': { status: 6, exitCode: 73, logLevel: 'warn', fault: 'user' },
  'failed-precondition': { status: 9, exitCode: 69, logLevel: 'warn', fault: 'user' },
  'permission-denied': { status: 7, exitCode: 77, logLevel: 'warn', fault: 'user' },
  unauthenticated: { status: 16, exitCode: 77, logLevel: 'warn', fault: 'user' },
  unsupported: { status: 12, exitCode: 69, logLevel: 'warn', fault: 'user' },
  unimplemented: { status: 12, exitCode: 69, logLevel: 'debug', fault: 'platform' },
  'resource-exhausted': { status: 8, exitCode: 75, logLevel: 'warn', fault: 'user' },
  'address-in-use': { status: 9, exitCode: 69, logLevel: 'warn', fault: 'user' },
  'deadline-exceeded': { status: 4, exitCode: 75, logLevel: 'warn', fault: 'platform' },
  unavailable: { status: 14, exitCode: 69, logLevel: 'warn', fault: 'platform' },
  // What we wrote ourselves is damaged or was exchanged; it is made again where it can be.
  'data-loss': { status: 15, exitCode: 74, logLevel: 'warn', fault: 'platform' },
  internal: { status: 13, exitCode: 70, logLevel: 'error', fault: 'platform' },
};

/**
 * An error with a code of the closed set. The message says what failed, where, why, and what to do; it quotes values,
 * starts in lower case, ends without a dot and holds no secret.
 */
export class ShimError extends Error {
  override readonly name = 'ShimError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** What the code means at each border. */
  get meaning(): ErrorMeaning {
    return errorMeanings[this.code];
  }

  /** Takes anything thrown and gives a ShimError: itself, or `internal` with the cause kept. */
  static from(thrown: unknown, code: ErrorCode = 'internal'): ShimError {
    if (thrown instanceof ShimError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new ShimError(code, message, { cause: thrown });
  }
}
