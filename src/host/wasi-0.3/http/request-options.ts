import type { InstanceScope } from '../../scope.ts';
import { type RequestTimeouts, requestTimeouts } from '../../wasi/http/request-options.ts';

/** The three durations, nanoseconds. */
type Durations = {
  readonly connect: bigint | undefined;
  readonly firstByte: bigint | undefined;
  readonly betweenBytes: bigint | undefined;
};

/** wasi:http/types 0.3 `request-options`: mutable until they belong to a request. */
export class RequestOptions {
  readonly #scope: InstanceScope;
  #durations: Durations;
  readonly #mutable: boolean;

  private constructor(scope: InstanceScope, durations: Durations, mutable: boolean) {
    this.#scope = scope;
    this.#durations = durations;
    this.#mutable = mutable;
    scope.adopt(this);
  }

  /** The guest's constructor. */
  static create(scope: InstanceScope): RequestOptions {
    const durations = { connect: undefined, firstByte: undefined, betweenBytes: undefined };
    return new RequestOptions(scope, durations, true);
  }

  /** Takes the durations out of a handle that the guest gave away. */
  static take(options: RequestOptions): Durations {
    options.#scope.release(options);
    return options.#durations;
  }

  /** What a request shows of its options. */
  static view(scope: InstanceScope, durations: Durations): RequestOptions {
    return new RequestOptions(scope, durations, false);
  }

  static timeouts(durations: Durations | undefined): RequestTimeouts {
    return requestTimeouts(durations?.connect, durations?.firstByte, durations?.betweenBytes);
  }

  getConnectTimeout(): bigint | undefined {
    return this.#durations.connect;
  }

  setConnectTimeout(connect: bigint | undefined): void {
    this.#change({ connect });
  }

  getFirstByteTimeout(): bigint | undefined {
    return this.#durations.firstByte;
  }

  setFirstByteTimeout(firstByte: bigint | undefined): void {
    this.#change({ firstByte });
  }

  getBetweenBytesTimeout(): bigint | undefined {
    return this.#durations.betweenBytes;
  }

  setBetweenBytesTimeout(betweenBytes: bigint | undefined): void {
    this.#change({ betweenBytes });
  }

  clone(): RequestOptions {
    return new RequestOptions(this.#scope, this.#durations, true);
  }

  #change(change: Partial<Durations>): void {
    if (!this.#mutable) throw { tag: 'immutable' };
    this.#durations = { ...this.#durations, ...change };
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
  }
}

export type { Durations };
