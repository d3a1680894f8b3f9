import type { InstanceScope } from '../../scope.ts';
import { BodyChannel } from './body-channel.ts';
import { contentLengthOf, type FieldMap, Fields } from './fields.ts';
import { OutgoingBody } from './outgoing-body.ts';

/** A response that the guest has handed over. */
export type ResponseParts = {
  readonly status: number;
  readonly fields: FieldMap;
  /** Undefined when the guest never asked for the body: it is empty. */
  readonly body: BodyChannel | undefined;
};

/** wasi:http/types `outgoing-response`. */
export class OutgoingResponse {
  readonly #scope: InstanceScope;
  readonly #fields: FieldMap;
  #status = 200;
  #body: BodyChannel | undefined;

  constructor(scope: InstanceScope, headers: Fields) {
    this.#scope = scope;
    this.#fields = Fields.take(headers);
    scope.adopt(this);
  }

  /** Takes the response out of a handle that the guest gave away. */
  static take(response: OutgoingResponse): ResponseParts {
    response.#scope.release(response);
    return { status: response.#status, fields: response.#fields, body: response.#body };
  }

  statusCode(): number {
    return this.#status;
  }

  setStatusCode(status: number): void {
    if (status < 100 || status > 999) throw undefined;
    this.#status = status;
  }

  headers(): Fields {
    return Fields.view(this.#scope, this.#fields);
  }

  body(): OutgoingBody {
    const contentLength = contentLengthOf(this.#fields);
    if (this.#body !== undefined || contentLength === 'invalid') throw undefined;
    this.#body = new BodyChannel(this.#scope, { message: 'response', contentLength });
    return new OutgoingBody(this.#scope, this.#body);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#fields.release();
    this.#body?.abort({ tag: 'connection-terminated' });
  }
}
