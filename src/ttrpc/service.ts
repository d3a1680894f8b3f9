/** How a service is described to the server and its calls to the client. */
import type { Metadata } from './envelope.ts';
import { StatusCode, TtrpcError } from './status.ts';

/** Bytes ↔ values of one method. What `@grpc/proto-loader` gives per method fits as it is. */
export type MethodCodec<Req, Res> = {
  readonly requestSerialize: (value: Req) => Uint8Array;
  readonly requestDeserialize: (bytes: Buffer) => Req;
  readonly responseSerialize: (value: Res) => Uint8Array;
  readonly responseDeserialize: (bytes: Buffer) => Res;
};

/** What a handler knows of its call. */
export type CallContext = {
  readonly service: string;
  readonly method: string;
  /** Lower-case key → values. */
  readonly metadata: Metadata;
  /** Aborts when the deadline passes or the connection closes; the reason is a TtrpcError. */
  readonly signal: AbortSignal;
  /** When the caller gives up, in milliseconds of the `performance.now()` clock. */
  readonly deadline: number | undefined;
};

/** One method's work. A TtrpcError thrown here is the reply; `TtrpcServer`'s `toStatus` maps anything else. */
export type Handler<Req, Res> = (request: Req, context: CallContext) => Promise<Res>;

/** A method with its types erased: payload in, payload out. Made by {@link method}. */
export type BoundMethod = (payload: Buffer, context: CallContext) => Promise<Uint8Array>;

/** The methods of a service by bare name (`Create`). */
export type ServiceMethods = ReadonlyMap<string, BoundMethod>;

/** Ties a handler to its codec; the types of the two must agree. */
export function method<Req, Res>(codec: MethodCodec<Req, Res>, handler: Handler<Req, Res>): BoundMethod {
  return async (payload, context) => {
    const name = `${context.service}/${context.method}`;
    const request = coded(StatusCode.InvalidArgument, `malformed request of ${name}`, () =>
      codec.requestDeserialize(payload),
    );
    const response = await handler(request, context);
    return coded(StatusCode.Internal, `the reply of ${name} cannot be encoded`, () =>
      codec.responseSerialize(response),
    );
  };
}

/** Runs a codec's function; what it throws becomes a TtrpcError of that code. */
export function coded<T>(
  code: typeof StatusCode.InvalidArgument | typeof StatusCode.Internal,
  what: string,
  run: () => T,
): T {
  try {
    return run();
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw new TtrpcError(code, `${what}: ${why}`, { cause: thrown });
  }
}
