import { setImmediate as nextTurn } from 'node:timers/promises';
import type { InstanceScope } from '../../scope.ts';
import { BodyChannel } from '../../wasi/http/body-channel.ts';
import type { ErrorCode } from '../../wasi/http/error-code.ts';
import { contentLengthOf } from '../../wasi/http/fields.ts';
import type { HttpServices } from '../../wasi/http/http.ts';
import { sendRequest } from '../../wasi/http/outgoing-handler.ts';
import { heedlessly } from '../guest-stream.ts';
import type { TransferResult } from './message-body.ts';
import { Request } from './request.ts';
import { RequestOptions } from './request-options.ts';
import { Response } from './response.ts';

/**
 * wasi:http/client 0.3 `send`: the policy, the connections and the limits of 0.2's outgoing-handler. Throws the WIT error
 * code. The body goes out while the guest goes on, also after the head of the response has come.
 */
export async function send(
  { outbound, warn }: HttpServices,
  scope: InstanceScope,
  request: Request,
): Promise<Response> {
  const { method, scheme, authority, pathWithQuery, fields, body, options } = Request.take(request);
  const length = contentLengthOf(fields);
  const contentLength = length === 'invalid' ? undefined : length;
  let channel = body.hasContents ? new BodyChannel(scope, { message: 'request', contentLength }) : undefined;
  // These hardly ever have a body, and an empty chunked one confuses servers: whether there is one is looked at first.
  const seldomHasBody = method.tag === 'get' || method.tag === 'head';
  if (channel !== undefined && contentLength === undefined && seldomHasBody) {
    if (!(await body.begin(channel))) channel = undefined;
  }
  const parts = { method, scheme, authority, pathWithQuery, fields, body: channel };
  const outcome = sendRequest(outbound, warn, scope, parts, RequestOptions.timeouts(options));
  if ('tag' in outcome) {
    body.settle({ tag: 'err', val: outcome });
    body.drop();
    throw outcome;
  }
  const sending: Disposable = { [Symbol.dispose]: () => outcome.abandon() };
  scope.adopt(sending);
  try {
    let transfer: Promise<TransferResult> | undefined;
    if (channel === undefined) heedlessly(body.trailers());
    else transfer = body.transfer(channel);
    while (outcome.head.kind === 'pending') {
      await scope.wait((resolve) => outcome.answered.subscribe(resolve));
    }
    const { head } = outcome;
    if (head.kind === 'failed') {
      const code = await causeOf(head.code, transfer);
      body.settle({ tag: 'err', val: code });
      throw code;
    }
    if (channel === undefined) body.settle({ tag: 'ok', val: undefined });
    return Response.received(scope, head.status, head.headers, outcome);
  } finally {
    scope.release(sending);
  }
}

/** A request that was given up because of its body has failed with what the body has failed with. */
async function causeOf(code: ErrorCode, transfer: Promise<TransferResult> | undefined): Promise<ErrorCode> {
  if (code.tag !== 'connection-terminated' || transfer === undefined) return code;
  const result = await Promise.race([transfer, nextTurn(undefined)]);
  return result?.tag === 'err' ? result.val : code;
}
