import type { InstanceScope } from '../../scope.ts';
import { BodyChannel } from '../../wasi/http/body-channel.ts';
import { contentLengthOf } from '../../wasi/http/fields.ts';
import type { HttpServices } from '../../wasi/http/http.ts';
import { sendRequest } from '../../wasi/http/outgoing-handler.ts';
import { heedlessly } from '../guest-stream.ts';
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
  const channel = body.hasContents
    ? new BodyChannel(scope, { message: 'request', contentLength })
    : undefined;
  const parts = { method, scheme, authority, pathWithQuery, fields, body: channel };
  const outcome = sendRequest(outbound, warn, scope, parts, RequestOptions.timeouts(options));
  if ('tag' in outcome) {
    body.drop();
    body.settle({ tag: 'err', val: outcome });
    throw outcome;
  }
  const sending: Disposable = { [Symbol.dispose]: () => outcome.abandon() };
  scope.adopt(sending);
  try {
    if (channel === undefined) heedlessly(body.trailers(scope));
    else void body.transfer(scope, channel);
    while (outcome.head.kind === 'pending') {
      await scope.wait((resolve) => outcome.answered.subscribe(resolve));
    }
    const { head } = outcome;
    if (head.kind !== 'received') {
      const code = head.kind === 'failed' ? head.code : ({ tag: 'internal-error' } as const);
      body.settle({ tag: 'err', val: code });
      throw code;
    }
    if (channel === undefined) body.settle({ tag: 'ok', val: undefined });
    return Response.received(scope, head.status, head.headers, outcome);
  } finally {
    scope.release(sending);
  }
}
