/** The closed set of ttrpc status codes (google.rpc.Code) and the one error type of this folder. */

/** Name → number, as they travel in `Status.code`. */
export const StatusCode = {
  Ok: 0,
  Canceled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16,
} as const;

/** Any status code. */
export type StatusCode = (typeof StatusCode)[keyof typeof StatusCode];

/** Any status code that tells of a failure. */
export type ErrorStatusCode = Exclude<StatusCode, typeof StatusCode.Ok>;

const errorCodes: ReadonlyMap<number, ErrorStatusCode> = new Map(
  Object.values(StatusCode).flatMap((code) => (code === StatusCode.Ok ? [] : [[code, code] as const])),
);

/** A number from outside as an error code: what is not in the closed set (0 too) becomes Unknown. */
export function toErrorStatusCode(code: number): ErrorStatusCode {
  return errorCodes.get(code) ?? StatusCode.Unknown;
}

/** A failed call or connection. `details` holds the encoded `google.protobuf.Any` messages of a reply, undecoded. */
export class TtrpcError extends Error {
  override readonly name = 'TtrpcError';
  readonly code: ErrorStatusCode;
  readonly details: readonly Uint8Array[];

  constructor(
    code: ErrorStatusCode,
    message: string,
    options: { readonly cause?: unknown; readonly details?: readonly Uint8Array[] } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.details = options.details ?? [];
  }

  /**
   * Anything thrown as a TtrpcError: itself; Canceled for an AbortError, DeadlineExceeded for a TimeoutError;
   * else `code` (default Unknown) with the thrown value's message, the value kept as cause.
   */
  static from(thrown: unknown, code: ErrorStatusCode = StatusCode.Unknown): TtrpcError {
    if (thrown instanceof TtrpcError) return thrown;
    if (!(thrown instanceof Error)) return new TtrpcError(code, String(thrown), { cause: thrown });
    return new TtrpcError(codeOfName(thrown.name) ?? code, thrown.message, { cause: thrown });
  }
}

function codeOfName(name: string): ErrorStatusCode | undefined {
  if (name === 'AbortError') return StatusCode.Canceled;
  if (name === 'TimeoutError') return StatusCode.DeadlineExceeded;
  return undefined;
}

/** Longest quotation of a peer's string in a message, in UTF-16 code units. */
const maxQuotedLength = 200;

/** A string of the peer, quoted and cut, fit to stand in a message. */
export function quote(text: string): string {
  return JSON.stringify(text.length > maxQuotedLength ? `${text.slice(0, maxQuotedLength)}…` : text);
}
