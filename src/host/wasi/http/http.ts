import type { ScopeSource } from '../../scope.ts';
import { httpErrorCode } from './error-code.ts';
import { Fields } from './fields.ts';
import { FutureIncomingResponse } from './future-incoming-response.ts';
import { FutureTrailers, IncomingBody } from './incoming-body.ts';
import { IncomingRequest } from './incoming-request.ts';
import { IncomingResponse } from './incoming-response.ts';
import type { OutboundClient } from './outbound.ts';
import { OutgoingBody } from './outgoing-body.ts';
import { handle } from './outgoing-handler.ts';
import { OutgoingRequest } from './outgoing-request.ts';
import { OutgoingResponse } from './outgoing-response.ts';
import { RequestOptions } from './request-options.ts';
import { ResponseOutparam } from './response-outparam.ts';

/** What the http interfaces of an instance work with. */
export type HttpServices = {
  readonly outbound: OutboundClient;
  /** Takes one line for the container's stderr. */
  readonly warn: (line: string) => void;
};

/**
 * A constructor for guests, which cannot pass the scope their object belongs to. It shares the prototype of the real
 * class, so `instanceof` holds for what guests and what the host construct, and one instance costs a closure.
 */
export function guestConstructor<Arguments extends readonly unknown[]>(
  prototype: object,
  construct: (...args: Arguments) => object,
): object {
  function GuestResource(...args: Arguments): object {
    return construct(...args);
  }
  GuestResource.prototype = prototype;
  return GuestResource;
}

type FieldEntries = readonly (readonly [name: string, value: Uint8Array])[];

/** wasi:http/types and wasi:http/outgoing-handler of one instance, keyed by unversioned name. */
export function createHttp(
  { outbound, warn }: HttpServices,
  source: ScopeSource,
): ReadonlyMap<string, object> {
  const fields = guestConstructor(Fields.prototype, () => Fields.create(source.scope));
  const types = {
    Fields: Object.assign(fields, {
      fromList: (entries: FieldEntries) => Fields.fromList(source.scope, entries),
    }),
    FutureIncomingResponse,
    FutureTrailers,
    IncomingBody,
    IncomingRequest,
    IncomingResponse,
    OutgoingBody,
    OutgoingRequest: guestConstructor(
      OutgoingRequest.prototype,
      (headers: Fields) => new OutgoingRequest(source.scope, headers),
    ),
    OutgoingResponse: guestConstructor(
      OutgoingResponse.prototype,
      (headers: Fields) => new OutgoingResponse(source.scope, headers),
    ),
    RequestOptions: guestConstructor(RequestOptions.prototype, () => new RequestOptions(source.scope)),
    ResponseOutparam,
    httpErrorCode,
  };
  const handler = {
    handle: (request: OutgoingRequest, options: RequestOptions | undefined) =>
      handle(outbound, warn, source.scope, request, options),
  };
  return new Map<string, object>([
    ['wasi:http/types', types],
    ['wasi:http/outgoing-handler', handler],
  ]);
}

/** Functions of wasi:http that may wait: none, since guests wait on pollables and streams. */
export const httpAsyncImports: readonly string[] = [];
