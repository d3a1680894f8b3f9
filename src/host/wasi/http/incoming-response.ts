import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { FieldMap, Fields } from './fields.ts';
import { IncomingBody, type IncomingContent } from './incoming-body.ts';

/** wasi:http/types `incoming-response`. Dropped unread, it ends the transfer. */
export class IncomingResponse {
  readonly #scope: InstanceScope;
  readonly #status: number;
  readonly #fields: FieldMap;
  readonly #content: IncomingContent;
  #consumed = false;

  constructor(scope: InstanceScope, status: number, headers: HeaderList, content: IncomingContent) {
    this.#scope = scope;
    this.#status = status;
    this.#fields = FieldMap.received(scope, headers);
    this.#content = content;
    scope.adopt(this);
  }

  status(): number {
    return this.#status;
  }

  headers(): Fields {
    return Fields.view(this.#scope, this.#fields);
  }

  consume(): IncomingBody {
    if (this.#consumed) throw undefined;
    this.#consumed = true;
    return new IncomingBody(this.#scope, this.#content);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#fields.release();
    if (!this.#consumed) this.#content.abandon();
  }
}
