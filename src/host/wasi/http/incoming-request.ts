import type { HttpExchange } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { FieldMap, Fields } from './fields.ts';
import { IncomingBody } from './incoming-body.ts';
import { type Method, methodFromText, type Scheme } from './method.ts';
import { ReadableContent } from './readable-content.ts';

/** wasi:http/types `incoming-request` over one inbound exchange. */
export class IncomingRequest {
  readonly #scope: InstanceScope;
  readonly #exchange: HttpExchange;
  #fields: FieldMap | undefined;
  #consumed = false;

  constructor(scope: InstanceScope, exchange: HttpExchange) {
    this.#scope = scope;
    this.#exchange = exchange;
    scope.adopt(this);
  }

  method(): Method {
    return methodFromText(this.#exchange.method);
  }

  pathWithQuery(): string | undefined {
    return this.#exchange.pathWithQuery;
  }

  scheme(): Scheme | undefined {
    return this.#exchange.scheme === 'https' ? { tag: 'HTTPS' } : { tag: 'HTTP' };
  }

  authority(): string | undefined {
    return this.#exchange.authority;
  }

  headers(): Fields {
    this.#fields ??= FieldMap.received(this.#scope, this.#exchange.headers);
    return Fields.view(this.#scope, this.#fields);
  }

  consume(): IncomingBody {
    if (this.#consumed) throw undefined;
    this.#consumed = true;
    const content = new ReadableContent(this.#exchange.body, () => this.#exchange.trailers());
    return new IncomingBody(this.#scope, content);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#fields?.release();
  }
}
