import type { InstanceScope } from '../../scope.ts';

/** Timeouts of one outbound request, milliseconds. */
export type RequestTimeouts = {
  readonly connect: number;
  readonly firstByte: number;
  readonly betweenBytes: number;
};

/** Spin's default for each of the three (reference/spin.md 4.4). */
export const defaultTimeoutMs = 600_000;

/** Longest delay a Node timer takes. */
const maxTimerMs = 2 ** 31 - 1;

function milliseconds(duration: bigint | undefined): number {
  if (duration === undefined) return defaultTimeoutMs;
  const rounded = (duration + 999_999n) / 1_000_000n;
  return rounded > BigInt(maxTimerMs) ? maxTimerMs : Number(rounded);
}

/** The timeouts a guest has set, nanoseconds; Spin's default for each it has not. */
export function requestTimeouts(
  connect: bigint | undefined,
  firstByte: bigint | undefined,
  betweenBytes: bigint | undefined,
): RequestTimeouts {
  return {
    connect: milliseconds(connect),
    firstByte: milliseconds(firstByte),
    betweenBytes: milliseconds(betweenBytes),
  };
}

/** wasi:http/types `request-options`; durations are nanoseconds. */
export class RequestOptions {
  readonly #scope: InstanceScope;
  #connect: bigint | undefined;
  #firstByte: bigint | undefined;
  #betweenBytes: bigint | undefined;

  constructor(scope: InstanceScope) {
    this.#scope = scope;
    scope.adopt(this);
  }

  /** Takes the timeouts out of a handle that the guest gave away; defaults without one. */
  static take(options: RequestOptions | undefined): RequestTimeouts {
    if (options === undefined) return requestTimeouts(undefined, undefined, undefined);
    options.#scope.release(options);
    return requestTimeouts(options.#connect, options.#firstByte, options.#betweenBytes);
  }

  connectTimeout(): bigint | undefined {
    return this.#connect;
  }

  setConnectTimeout(duration: bigint | undefined): void {
    this.#connect = duration;
  }

  firstByteTimeout(): bigint | undefined {
    return this.#firstByte;
  }

  setFirstByteTimeout(duration: bigint | undefined): void {
    this.#firstByte = duration;
  }

  betweenBytesTimeout(): bigint | undefined {
    return this.#betweenBytes;
  }

  setBetweenBytesTimeout(duration: bigint | undefined): void {
    this.#betweenBytes = duration;
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
  }
}
