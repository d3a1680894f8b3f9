import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { FieldMap } from '../../wasi/http/fields.ts';
import type { IncomingContent } from '../../wasi/http/incoming-body.ts';
import { type GuestFuture, type GuestStream, heedlessly } from '../guest-stream.ts';
import { Fields } from './fields.ts';
import {
  type ConsumedBody,
  guestBody,
  type MessageBody,
  receivedBody,
  type TrailersResult,
  type TransferResult,
} from './message-body.ts';

/** A response that somebody has handed over. */
export type ResponseParts = {
  readonly status: number;
  readonly fields: FieldMap;
  readonly body: MessageBody;
};

/** wasi:http/types 0.3 `response`: made by a guest, or received. */
export class Response {
  readonly #scope: InstanceScope;
  readonly #fields: FieldMap;
  readonly #body: MessageBody;
  #status: number;

  private constructor(scope: InstanceScope, status: number, fields: FieldMap, body: MessageBody) {
    this.#scope = scope;
    this.#status = status;
    this.#fields = fields;
    this.#body = body;
    scope.adopt(this);
  }

  /** WIT `new`. */
  static create(
    scope: InstanceScope,
    headers: Fields,
    contents: GuestStream | undefined,
    trailers: GuestFuture<TrailersResult>,
  ): readonly [Response, Promise<TransferResult>] {
    const { body, transferred } = guestBody(scope, contents, trailers);
    return [new Response(scope, 200, Fields.take(headers), body), transferred];
  }

  /** The answer to an outbound request. */
  static received(
    scope: InstanceScope,
    status: number,
    headers: HeaderList,
    content: IncomingContent,
  ): Response {
    return new Response(scope, status, FieldMap.received(scope, headers), receivedBody(scope, content));
  }

  /** Takes the response out of a handle that the guest gave away. */
  static take(response: Response): ResponseParts {
    response.#scope.release(response);
    return { status: response.#status, fields: response.#fields, body: response.#body };
  }

  static consumeBody(response: Response, result: GuestFuture<TransferResult>): ConsumedBody {
    response.#scope.release(response);
    response.#fields.release();
    heedlessly(result);
    return response.#body.consume();
  }

  getStatusCode(): number {
    return this.#status;
  }

  /** 100 to 599, which is less than 0.2 takes. */
  setStatusCode(status: number): void {
    if (status < 100 || status > 599) throw undefined;
    this.#status = status;
  }

  getHeaders(): Fields {
    return Fields.view(this.#scope, this.#fields);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#fields.release();
    this.#body.drop();
  }
}
