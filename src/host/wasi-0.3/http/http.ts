import type { ScopeSource } from '../../scope.ts';
import { guestConstructor, type HttpServices } from '../../wasi/http/http.ts';
import type { GuestFuture, GuestStream } from '../guest-stream.ts';
import { send } from './client.ts';
import { Fields } from './fields.ts';
import type { TrailersResult } from './message-body.ts';
import { Request } from './request.ts';
import { RequestOptions } from './request-options.ts';
import { Response } from './response.ts';

type FieldEntries = readonly (readonly [name: string, value: Uint8Array])[];

/** What `request` and `response` have in place of a constructor. */
function neverConstructed(): never {
  throw new Error('a message of wasi:http 0.3 is made by its function "new"');
}

/** wasi:http/types and wasi:http/client 0.3 of one instance. */
export function createHttp03(services: HttpServices, source: ScopeSource): ReadonlyMap<string, object> {
  const types = {
    Fields: Object.assign(
      guestConstructor(Fields.prototype, () => Fields.create(source.scope)),
      { fromList: (entries: FieldEntries) => Fields.fromList(source.scope, entries) },
    ),
    Request: Object.assign(guestConstructor(Request.prototype, neverConstructed), {
      new: (
        headers: Fields,
        contents: GuestStream | undefined,
        trailers: GuestFuture<TrailersResult>,
        options: RequestOptions | undefined,
      ) => Request.create(source.scope, headers, contents, trailers, options),
      consumeBody: Request.consumeBody,
    }),
    RequestOptions: guestConstructor(RequestOptions.prototype, () => RequestOptions.create(source.scope)),
    Response: Object.assign(guestConstructor(Response.prototype, neverConstructed), {
      new: (headers: Fields, contents: GuestStream | undefined, trailers: GuestFuture<TrailersResult>) =>
        Response.create(source.scope, headers, contents, trailers),
      consumeBody: Response.consumeBody,
    }),
  };
  return new Map<string, object>([
    ['wasi:http/types', types],
    ['wasi:http/client', { send: (request: Request) => send(services, source.scope, request) }],
  ]);
}
