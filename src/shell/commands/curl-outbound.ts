import { InstanceScope } from '../../host/scope.ts';
import type { ErrorCode } from '../../host/wasi/http/error-code.ts';
import { Fields } from '../../host/wasi/http/fields.ts';
import type { IncomingResponse } from '../../host/wasi/http/incoming-response.ts';
import { methodFromText } from '../../host/wasi/http/method.ts';
import { OutgoingBody } from '../../host/wasi/http/outgoing-body.ts';
import { handle } from '../../host/wasi/http/outgoing-handler.ts';
import { OutgoingRequest } from '../../host/wasi/http/outgoing-request.ts';
import type { GrantedComponent } from '../app-access.ts';
import type { CommandContext } from '../command.ts';
import { CurlFailure, type CurlRequest, type CurlResponse, curlExitCodes } from './curl-request.ts';

/** Bytes of a body that are taken at once. */
const chunkBytes = 64n * 1024n;

const over = new Error('the request is over');

/**
 * Sends a request as a guest of the app would, through the same host objects: the allow list, the blocked networks and
 * the messages are the component's own. Without one that is named it is the first that may reach the address.
 */
export async function sendOutbound(
  { app, stderr }: CommandContext,
  request: CurlRequest,
  id: string | undefined,
): Promise<CurlResponse> {
  const granted = await app.granted(id);
  const chosen = granted.find((component) => mayReach(component, request.url)) ?? granted[0];
  if (chosen === undefined) throw new CurlFailure('the app has no component to ask as', curlExitCodes.denied);
  const scope = new InstanceScope();
  const { signal, timeoutMs } = request;
  const giveUp = setTimeout(
    () => scope.end(new CurlFailure(`no whole answer within ${timeoutMs} ms`, curlExitCodes.timeout)),
    timeoutMs,
  );
  const onAbort = (): void => scope.end(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const end = (): void => {
    clearTimeout(giveUp);
    signal.removeEventListener('abort', onAbort);
    scope.end(over);
  };
  try {
    const lines: string[] = [];
    const future = await start(scope, chosen, request, lines);
    await future.subscribe().block();
    for (const line of lines) await stderr.write(`${line}\n`);
    const result = future.get();
    if (result?.tag !== 'ok') throw new CurlFailure('there was no answer', curlExitCodes.empty);
    if (result.val.tag === 'err') throw failureOf(result.val.val);
    const response = result.val.val;
    return {
      status: response.status(),
      headers: response
        .headers()
        .entries()
        .map(([name, value]) => [name, Buffer.from(value).toString('utf8')] as const),
      body: bodyOf(response, end),
    };
  } catch (thrown) {
    const reason = scope.ended ?? thrown;
    end();
    throw reason;
  }
}

function mayReach({ grant }: GrantedComponent, url: URL): boolean {
  const { policy } = grant.http.outbound;
  const destination = policy.parse(url.href);
  if (destination === undefined) return false;
  const isOwn = policy.self?.host === destination.host && policy.self.port === destination.port;
  return policy.allows(destination) || (isOwn && policy.allowsSelf());
}

/** The steps of a guest that sends a request. */
async function start(
  scope: InstanceScope,
  { grant }: GrantedComponent,
  { url, method, headers, body }: CurlRequest,
  lines: string[],
) {
  let outgoing: OutgoingRequest;
  try {
    const fields = [
      ...headers,
      ...(body === undefined ? [] : [['content-length', `${body.length}`] as const]),
    ];
    outgoing = new OutgoingRequest(
      scope,
      Fields.fromList(
        scope,
        fields.map(([name, value]) => [name, Buffer.from(value)] as const),
      ),
    );
    outgoing.setMethod(methodFromText(method));
    outgoing.setScheme(url.protocol === 'http:' ? { tag: 'HTTP' } : { tag: 'HTTPS' });
    outgoing.setAuthority(url.host);
    outgoing.setPathWithQuery(`${url.pathname}${url.search}`);
  } catch (thrown) {
    if (thrown instanceof Error) throw thrown;
    throw new CurlFailure('the method or a header field is not one that can be sent', curlExitCodes.usage);
  }
  const sent = body === undefined ? undefined : outgoing.body();
  const future = handle(grant.http.outbound, (line) => lines.push(line), scope, outgoing, undefined);
  if (sent !== undefined && body !== undefined && lines.length === 0) {
    await sent.write().blockingWriteAndFlush(body);
    OutgoingBody.finish(sent, undefined);
  }
  return future;
}

async function* bodyOf(response: IncomingResponse, end: () => void): AsyncGenerator<Uint8Array> {
  try {
    const stream = response.consume().stream();
    for (;;) {
      let chunk: Uint8Array;
      try {
        chunk = await stream.blockingRead(chunkBytes);
      } catch (thrown) {
        if (thrown instanceof Error) throw thrown;
        if (isClosed(thrown)) return;
        throw new CurlFailure('the answer was cut off', curlExitCodes.cut);
      }
      yield chunk;
    }
  } finally {
    end();
  }
}

/** wasi:io's stream error `closed`. */
function isClosed(thrown: unknown): boolean {
  return typeof thrown === 'object' && thrown !== null && 'tag' in thrown && thrown.tag === 'closed';
}

const exitCodes: ReadonlyMap<ErrorCode['tag'], number> = new Map<ErrorCode['tag'], number>([
  ['DNS-error', curlExitCodes.unresolved],
  ['DNS-timeout', curlExitCodes.unresolved],
  ['HTTP-request-URI-invalid', curlExitCodes.badUrl],
  ['connection-timeout', curlExitCodes.timeout],
  ['connection-read-timeout', curlExitCodes.timeout],
  ['TLS-alert-received', curlExitCodes.tls],
  ['TLS-certificate-error', curlExitCodes.tls],
  ['TLS-protocol-error', curlExitCodes.tls],
]);

/** The guest's error code, which is all that a guest would see. */
function failureOf(code: ErrorCode): CurlFailure {
  return new CurlFailure(
    `a guest would get the error "${code.tag}"`,
    exitCodes.get(code.tag) ?? curlExitCodes.unreachable,
  );
}
