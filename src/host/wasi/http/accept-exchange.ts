import type { HttpExchange, ResponseSink } from '../../http-exchange.ts';
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

/** What the engine passes to the guest's `handle`, and what becomes of it. */
export type AcceptedExchange = {
  readonly request: IncomingRequest;
  readonly outparam: ResponseOutparam;
  /** Settles at the latest when the scope ends; never rejects. */
  readonly finished: Promise<ExchangeOutcome>;
};

/**
 * Makes an inbound exchange into the two arguments of wasi:http/incoming-handler `handle`. The engine then
 * - calls `handle(request, outparam)` and, whether it returns or throws, ends the scope: that cuts off a body the
 *   guest has not finished and counts an outparam it has not set as `no-response`, so that `finished` settles;
 * - on `error` and `no-response` answers with `sendFailure(exchange.response)`; on `sent` and `cut` it does nothing.
 * The head is sent when the outparam is set, the body streams while the guest goes on.
 */
export function acceptExchange(exchange: HttpExchange, scope: InstanceScope): AcceptedExchange {
  const { promise, resolve } = Promise.withResolvers<ExchangeOutcome>();
  const answered = (answer: Answer): void => {
    switch (answer.kind) {
      case 'response':
        sendResponse(exchange, answer.response, resolve);
        return;
      case 'error':
        resolve({ kind: 'error', code: answer.code });
        return;
      case 'none':
        resolve({ kind: 'no-response' });
        return;
      default:
        answer satisfies never;
    }
  };
  return {
    request: new IncomingRequest(scope, exchange),
    outparam: new ResponseOutparam(scope, answered),
    finished: promise,
  };
}

/** Answers 500 with an empty body, or cuts the connection when a response has begun (reference/spin.md 3.1.5). */
export function sendFailure(response: ResponseSink): void {
  if (response.started) {
    response.abort();
    return;
  }
  response.start(500, [['content-length', Buffer.from('0')]]);
  response.end();
}

function sendResponse(
  exchange: HttpExchange,
  { status, fields, body }: ResponseParts,
  resolve: (outcome: ExchangeOutcome) => void,
): void {
  const bodiless = exchange.method === 'HEAD' || status === 204 || status === 304;
  const announced = contentLengthOf(fields);
  const headers = fields.entries().filter(([name]) => name !== 'content-length');
  fields.release();
  let refusal = refusalOf(status, announced, body, bodiless);
  if (refusal === undefined) {
    const complete = body === undefined || (body.state === 'finished' && body.trailers === undefined);
    const known = complete && !bodiless ? (body?.pendingBytes ?? 0) : undefined;
    const length = announced === 'invalid' || announced === undefined ? known : announced;
    if (length !== undefined && status !== 204) headers.push(['content-length', Buffer.from(`${length}`)]);
    try {
      exchange.response.start(status, headers);
    } catch (error) {
      refusal = { tag: 'internal-error', val: error instanceof Error ? error.message : String(error) };
    }
  }
  if (refusal !== undefined) {
    body?.abort(refusal);
    resolve({ kind: 'error', code: refusal });
    return;
  }
  const target = responseTarget(exchange, status, bodiless, resolve);
  if (body === undefined) target.end(undefined);
  else body.attach(target);
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

function responseTarget(
  { response, signal }: HttpExchange,
  status: number,
  bodiless: boolean,
  resolve: (outcome: ExchangeOutcome) => void,
): BodyTarget {
  const cut = (code: ErrorCode): void => {
    response.abort();
    resolve({ kind: 'cut', status, code });
  };
  return {
    discards: bodiless,
    capacity: () => (signal.aborted ? 'closed' : bodiless ? discardedBytes : response.capacity()),
    write: (bytes) => {
      if (!bodiless && !signal.aborted) response.write(bytes);
    },
    isFlushed: () => bodiless || response.isFlushed(),
    onDrain: (callback) => response.onDrain(callback),
    end: (trailers) => {
      if (signal.aborted) {
        cut({ tag: 'connection-terminated' });
        return;
      }
      response.end(bodiless ? undefined : trailers);
      resolve({ kind: 'sent', status });
    },
    abort: cut,
  };
}
