import type { InstanceScope } from '../../scope.ts';
import { Pollable, type Readiness } from '../io.ts';
import type { ErrorCode } from './error-code.ts';
import { IncomingResponse } from './incoming-response.ts';
import type { OutboundExchange } from './outbound-exchange.ts';

/** `result<result<incoming-response, error-code>>`. */
export type FutureResult =
  | {
      readonly tag: 'ok';
      readonly val:
        | { readonly tag: 'ok'; readonly val: IncomingResponse }
        | { readonly tag: 'err'; readonly val: ErrorCode };
    }
  | { readonly tag: 'err'; readonly val: undefined };

const always: Readiness = { isReady: () => true, subscribe: () => () => {} };

/** wasi:http/types `future-incoming-response`. Dropped before its response is taken, it gives the request up. */
export class FutureIncomingResponse {
  readonly #scope: InstanceScope;
  readonly #outcome: OutboundExchange | ErrorCode;
  #taken = false;

  /** `outcome` is a request on its way, or why there is none. */
  constructor(scope: InstanceScope, outcome: OutboundExchange | ErrorCode) {
    this.#scope = scope;
    this.#outcome = outcome;
    scope.adopt(this);
  }

  subscribe(): Pollable {
    return new Pollable(this.#scope, 'tag' in this.#outcome ? always : this.#outcome.answered);
  }

  get(): FutureResult | undefined {
    if (this.#taken) return { tag: 'err', val: undefined };
    const outcome = this.#outcome;
    const head = 'tag' in outcome ? ({ kind: 'failed', code: outcome } as const) : outcome.head;
    if (head.kind === 'pending') return undefined;
    this.#taken = true;
    if (head.kind === 'failed' || 'tag' in outcome) {
      return {
        tag: 'ok',
        val: { tag: 'err', val: head.kind === 'failed' ? head.code : { tag: 'internal-error' } },
      };
    }
    const response = new IncomingResponse(this.#scope, head.status, head.headers, outcome);
    return { tag: 'ok', val: { tag: 'ok', val: response } };
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    if (!this.#taken && !('tag' in this.#outcome)) this.#outcome.abandon();
  }
}
