import type { HttpExchange } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { type ExchangeOutcome, sendResponse } from '../../wasi/http/accept-exchange.ts';
import { BodyChannel } from '../../wasi/http/body-channel.ts';
import { contentLengthOf } from '../../wasi/http/fields.ts';
import { Response } from './response.ts';

/**
 * Sends the response a 0.3 guest has returned, its body at the client's pace. Settles when the last byte and the trailers
 * have been handed on, when the response turns out to be one that cannot be sent, or when the scope ends.
 */
export async function answerExchange(
  exchange: HttpExchange,
  scope: InstanceScope,
  response: Response,
): Promise<ExchangeOutcome> {
  const { status, fields, body } = Response.take(response);
  const length = contentLengthOf(fields);
  const contentLength = length === 'invalid' ? undefined : length;
  const channel = new BodyChannel(scope, { message: 'response', contentLength });
  const { promise, resolve } = Promise.withResolvers<ExchangeOutcome>();
  // Without contents the whole message is known once the trailers are, and goes out at once.
  if (!body.hasContents) await body.transfer(channel);
  sendResponse(exchange, { status, fields, body: channel }, { settle: resolve });
  if (body.hasContents) await body.transfer(channel);
  // Without effect on a body that is complete: what is left is one that nobody takes any more.
  channel.abort({ tag: 'connection-terminated' });
  return promise;
}
