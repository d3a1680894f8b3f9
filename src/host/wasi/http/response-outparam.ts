import type { InstanceScope } from '../../scope.ts';
import type { ErrorCode } from './error-code.ts';
import { Fields } from './fields.ts';
import { OutgoingResponse, type ResponseParts } from './outgoing-response.ts';

/** What the guest said with its `response-outparam`. */
export type Answer =
  | { readonly kind: 'response'; readonly response: ResponseParts }
  | { readonly kind: 'error'; readonly code: ErrorCode }
  | { readonly kind: 'none' };

type WitResult =
  | { readonly tag: 'ok'; readonly val: OutgoingResponse }
  | { readonly tag: 'err'; readonly val: ErrorCode };

/** wasi:http/types `response-outparam`: calls back exactly once, also when it is dropped unset. */
export class ResponseOutparam {
  readonly #scope: InstanceScope;
  readonly #answered: (answer: Answer) => void;

  constructor(scope: InstanceScope, answered: (answer: Answer) => void) {
    this.#scope = scope;
    this.#answered = answered;
    scope.adopt(this);
  }

  static set(outparam: ResponseOutparam, result: WitResult): void {
    outparam.#scope.release(outparam);
    if (result.tag === 'err') outparam.#answered({ kind: 'error', code: result.val });
    else outparam.#answered({ kind: 'response', response: OutgoingResponse.take(result.val) });
  }

  /** Informational responses are an unstable part of the interface that nobody needs: always refused. */
  sendInformational(_status: number, headers: Fields): void {
    Fields.take(headers).release();
    const code: ErrorCode = { tag: 'internal-error', val: 'informational responses are not supported' };
    throw code;
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#answered({ kind: 'none' });
  }
}
