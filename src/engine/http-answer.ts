import type { HttpExchange } from '../host/http-exchange.ts';
import type { InstanceScope } from '../host/scope.ts';
import type { ExchangeOutcome } from '../host/wasi/http/accept-exchange.ts';
import type { ErrorCode } from '../host/wasi/http/error-code.ts';
import { answerExchange } from '../host/wasi-0.3/http/answer-exchange.ts';
import { Request } from '../host/wasi-0.3/http/request.ts';
import { Response } from '../host/wasi-0.3/http/response.ts';
import type { GuestInstance } from './guest-instance.ts';

/** How long a guest may go on when its response has been sent, milliseconds. Spin sets no limit. */
export const maxAfterworkMs = 30_000;

/** What became of one call of a 0.3 handler. */
export type Answer = {
  readonly outcome: ExchangeOutcome | undefined;
  /** What the guest trapped with, whether before or after it returned. */
  readonly failure: Error | undefined;
};

/**
 * Calls wasi:http/handler 0.3 `handle` and sends what it returns. Settles when the response is sent or cut and the
 * guest's task has ended; a guest that goes on longer than `maxAfterworkMs` after that is not waited for. Never rejects.
 */
export async function answerWithHandler(
  instance: GuestInstance,
  handler: string,
  exchange: HttpExchange,
  scope: InstanceScope,
  afterworkMs: number = maxAfterworkMs,
): Promise<Answer> {
  const own = instance.scope ?? scope;
  let returned: unknown;
  try {
    returned = await scope.ofGuest(instance.call(handler, 'handle', [Request.received(own, exchange)]));
  } catch (thrown) {
    const code = errorCodeOf(thrown);
    if (code !== undefined) return { outcome: { kind: 'error', code }, failure: undefined };
    return { outcome: undefined, failure: errorOf(thrown) };
  }
  if (!(returned instanceof Response))
    return { outcome: undefined, failure: new Error('the guest returned no response') };
  const sent = answerExchange(exchange, own, returned);
  const failure = instance.ended().then(
    () => undefined,
    (thrown: unknown) => errorOf(thrown),
  );
  const early = await Promise.race([
    sent.then(
      () => undefined,
      (thrown: unknown) => errorOf(thrown),
    ),
    failure.then((thrown) => (thrown === undefined ? sent.then(() => undefined) : thrown)),
  ]);
  if (early !== undefined) {
    scope.end(early);
    return { outcome: await sent.catch(() => undefined), failure: early };
  }
  return { outcome: await sent, failure: await within(scope, failure, afterworkMs) };
}

/** What a guest has failed with, taking too long included; undefined when it is done or the scope has ended. */
async function within(
  scope: InstanceScope,
  promise: Promise<Error | undefined>,
  milliseconds: number,
): Promise<Error | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = scope
    .wait((resolve) => {
      timer = setTimeout(resolve, milliseconds);
      return () => clearTimeout(timer);
    })
    .then(
      () => new Error(`the guest went on for ${milliseconds} ms and was ended`),
      () => undefined,
    );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The `error-code` a guest has returned: the glue throws it as the payload of an error of its own. */
function errorCodeOf(thrown: unknown): ErrorCode | undefined {
  if (typeof thrown !== 'object' || thrown === null || !Object.hasOwn(thrown, 'payload')) return undefined;
  return (thrown as { readonly payload: ErrorCode }).payload;
}

function errorOf(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
