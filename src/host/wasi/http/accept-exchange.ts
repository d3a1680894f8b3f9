import type { GoneSignal, HeaderList, HttpExchange, ResponseSink } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import type { BodyChannel, BodyTarget } from './body-channel.ts';
import type { ErrorCode } from './error-code.ts';
import { contentLengthOf } from './fields.ts';
import { IncomingRequest } from './incoming-request.ts';
import type { ResponseParts } from './outgoing-response.ts';
import { type Answer, ResponseOutparam } from './response-outparam.ts';

/** Bytes a body that is thrown away (HEAD, 204, 304) takes at once. */
const discardedBytes = 64 * 1024;

/** How an exchange ended on the guest's side. */
export type ExchangeOutcome =
  /** Head and whole body were handed to the sink, which has been ended. */
  | { readonly kind: 'sent'; readonly status: number }
  /** The head was sent, the body was not completed; the sink has been aborted. */
  | { readonly kind: 'cut'; readonly status: number; readonly code: ErrorCode }
  /** The guest answered with an error, or with a response that cannot be sent. Nothing was sent. */
  | { readonly kind: 'error'; readonly code: ErrorCode }
  /** The guest dropped the outparam, trapped or was ended. Nothing was sent. */
  | { readonly kind: 'no-response' };

/**
 * Makes an inbound exchange into the two arguments of wasi:http/incoming-handler `handle`. The engine then
 * - calls `handle(request, outparam)` and, whether it returns or throws, ends the scope: that cuts off a body the
 *   guest has not finished and counts an outparam it has not set as `no-response`, so that there is an outcome;
 * - on `error` and `no-response` answers with `sendFailure(exchange.response)`; on `sent` and `cut` it does nothing.
 * The head is sent when the outparam is set, the body streams while the guest goes on.
 */
export function acceptExchange(exchange: HttpExchange, scope: InstanceScope): AcceptedExchange {
  return new AcceptedExchange(exchange, scope);
}

/** What the engine passes to the guest's `handle`, and what became of it. */
export class AcceptedExchange {
  readonly request: IncomingRequest;
  readonly outparam: ResponseOutparam;
  #outcome: ExchangeOutcome | undefined;
  #waiting: ((outcome: ExchangeOutcome) => void)[] | undefined;

  constructor(exchange: HttpExchange, scope: InstanceScope) {
    this.request = new IncomingRequest(scope, exchange);
    this.outparam = new ResponseOutparam(scope, (answer) => this.#answered(exchange, answer));
  }

  /** There is one at the latest when the scope has ended. */
  get outcome(): ExchangeOutcome | undefined {
    return this.#outcome;
  }

  /** The same, when it is there; never rejects. */
  get finished(): Promise<ExchangeOutcome> {
    const outcome = this.#outcome;
    if (outcome !== undefined) return Promise.resolve(outcome);
    this.#waiting ??= [];
    const { promise, resolve } = Promise.withResolvers<ExchangeOutcome>();
    this.#waiting.push(resolve);
    return promise;
  }

  /** Keeps the first outcome. */
  settle(outcome: ExchangeOutcome): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    if (this.#waiting !== undefined) for (const resolve of this.#waiting) resolve(outcome);
  }

  #answered(exchange: HttpExchange, answer: Answer): void {
    switch (answer.kind) {
      case 'response':
        sendResponse(exchange, answer.response, this);
        return;
      case 'error':
        this.settle({ kind: 'error', code: answer.code });
        return;
      case 'none':
        this.settle({ kind: 'no-response' });
        return;
      default:
        answer satisfies never;
    }
  }
}

/** Answers with an empty body, or cuts the connection when a response has begun (reference/spin.md 3.1.5). */
export function sendFailure(response: ResponseSink, status = 500, fields: HeaderList = []): void {
  if (response.started) {
    response.abort();
    return;
  }
  response.start(status, [...fields, ['content-length', Buffer.from('0')]]);
  response.end();
}

/** Hears how an exchange ended, once. */
export type OutcomeSink = { settle(outcome: ExchangeOutcome): void };

/** Sends the head and lets the body follow; `accepted` hears of a response that cannot be sent, and of the end. */
export function sendResponse(
  exchange: HttpExchange,
  { status, fields, body }: ResponseParts,
  accepted: OutcomeSink,
): void {
  const bodiless = exchange.method === 'HEAD' || status === 204 || status === 304;
  const announced = contentLengthOf(fields);
  const headers = fields.entries();
  fields.release();
  let refusal = refusalOf(status, announced, body, bodiless);
  if (refusal === undefined) {
    const known = bodiless ? undefined : knownLength(body);
    const length = announced === 'invalid' || announced === undefined ? known : announced;
    try {
      exchange.response.start(
        status,
        status === 204 ? headers.filter(isNoLength) : withLength(headers, length),
      );
    } catch (error) {
      refusal = { tag: 'internal-error', val: error instanceof Error ? error.message : String(error) };
    }
  }
  if (refusal !== undefined) {
    body?.abort(refusal);
    accepted.settle({ kind: 'error', code: refusal });
    return;
  }
  const target = new ResponseTarget(exchange, status, bodiless, accepted);
  if (body === undefined) target.end(undefined);
  else body.attach(target);
}

/** The length of a body that is complete when its head is sent. */
function knownLength(body: BodyChannel | undefined): number | undefined {
  if (body === undefined) return 0;
  return body.state === 'finished' && body.trailers === undefined ? body.pendingBytes : undefined;
}

type Field = [name: string, value: Uint8Array];

function isNoLength([name]: Field): boolean {
  return name !== 'content-length';
}

/** The fields with one content-length, of the given value, or none. */
function withLength(fields: Field[], length: number | undefined): readonly Field[] {
  const others = fields.every(isNoLength) ? fields : fields.filter(isNoLength);
  if (length !== undefined) others.push(['content-length', Buffer.from(`${length}`)]);
  return others;
}

/** Why a response cannot be sent. */
function refusalOf(
  status: number,
  announced: number | 'invalid' | undefined,
  body: BodyChannel | undefined,
  bodiless: boolean,
): ErrorCode | undefined {
  // A final 1xx would leave the client waiting for another head.
  if (status < 200 || announced === 'invalid') return { tag: 'HTTP-protocol-error' };
  if (body?.state === 'failed') return { tag: 'HTTP-response-incomplete' };
  if (body === undefined && !bodiless && (announced ?? 0) > 0) {
    return { tag: 'HTTP-response-body-size', val: 0n };
  }
  return undefined;
}

/** The way of a response's body to the client. */
class ResponseTarget implements BodyTarget {
  readonly discards: boolean;
  readonly #response: ResponseSink;
  readonly #signal: GoneSignal;
  readonly #status: number;
  readonly #accepted: OutcomeSink;

  constructor({ response, signal }: HttpExchange, status: number, bodiless: boolean, accepted: OutcomeSink) {
    this.discards = bodiless;
    this.#response = response;
    this.#signal = signal;
    this.#status = status;
    this.#accepted = accepted;
  }

  capacity(): number | 'closed' {
    if (this.#signal.aborted) return 'closed';
    return this.discards ? discardedBytes : this.#response.capacity();
  }

  write(bytes: Uint8Array): void {
    if (!this.discards && !this.#signal.aborted) this.#response.write(bytes);
  }

  isFlushed(): boolean {
    return this.discards || this.#response.isFlushed();
  }

  onDrain(callback: () => void): () => void {
    return this.#response.onDrain(callback);
  }

  end(trailers: HeaderList | undefined): void {
    if (this.#signal.aborted) {
      this.abort({ tag: 'connection-terminated' });
      return;
    }
    this.#response.end(this.discards ? undefined : trailers);
    this.#accepted.settle({ kind: 'sent', status: this.#status });
  }

  abort(code: ErrorCode): void {
    this.#response.abort();
    this.#accepted.settle({ kind: 'cut', status: this.#status, code });
  }
}
