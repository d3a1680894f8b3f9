import type { Destination } from '../../../app/allowed-hosts-url.ts';
import type { InstanceScope } from '../../scope.ts';
import type { ErrorCode } from './error-code.ts';
import { contentLengthOf } from './fields.ts';
import { FutureIncomingResponse } from './future-incoming-response.ts';
import { methodText } from './method.ts';
import type { OutboundClient, OutboundPolicy } from './outbound.ts';
import type { OutboundExchange } from './outbound-exchange.ts';
import { OutgoingRequest, type RequestParts } from './outgoing-request.ts';
import { RequestOptions, type RequestTimeouts } from './request-options.ts';

/** Hosts that stand for the application itself; an empty one is a relative URL (reference/spin.md 3.1.8). */
const selfHosts: ReadonlySet<string> = new Set(['', 'self', 'self.alt']);

/** Fields that undici sets itself, refuses, or wants at most once. */
const recomputed: ReadonlySet<string> = new Set(['content-length', 'expect', 'host']);

type Target = { readonly destination: Destination } | { readonly code: ErrorCode };

/**
 * wasi:http/outgoing-handler `handle`: returns at once. What policy refuses is refused by the future, with the lines
 * that say how to allow it going to `warn` (the container's stderr).
 */
export function handle(
  outbound: OutboundClient,
  warn: (text: string) => void,
  scope: InstanceScope,
  request: OutgoingRequest,
  options: RequestOptions | undefined,
): FutureIncomingResponse {
  const parts = OutgoingRequest.take(request);
  return new FutureIncomingResponse(
    scope,
    sendRequest(outbound, warn, scope, parts, RequestOptions.take(options)),
  );
}

/** Sends a request if policy lets it through: what is on its way, or why nothing is. Its body is attached or aborted. */
export function sendRequest(
  outbound: OutboundClient,
  warn: (text: string) => void,
  scope: InstanceScope,
  parts: RequestParts,
  timeouts: RequestTimeouts,
): OutboundExchange | ErrorCode {
  const target = targetOf(outbound.policy, warn, parts);
  const refused = 'code' in target ? target.code : checkBody(parts);
  const contentLength = contentLengthOf(parts.fields);
  const headers = parts.fields.entries().filter(([name]) => !recomputed.has(name));
  if (typeof contentLength === 'number') headers.push(['content-length', Buffer.from(`${contentLength}`)]);
  parts.fields.release();
  if (refused !== undefined || 'code' in target || contentLength === 'invalid') {
    const code: ErrorCode = refused ?? { tag: 'HTTP-protocol-error' };
    parts.body?.abort(code);
    return code;
  }
  const pathWithQuery = parts.pathWithQuery ?? '/';
  const outcome = outbound.send(scope, {
    destination: target.destination,
    method: methodText(parts.method),
    path: pathWithQuery.startsWith('/') ? pathWithQuery : `/${pathWithQuery}`,
    headers,
    contentLength,
    body: parts.body,
    timeouts,
  });
  if ('tag' in outcome) parts.body?.abort(outcome);
  return outcome;
}

function checkBody({ body, method }: RequestParts): ErrorCode | undefined {
  if (methodText(method) === 'CONNECT') return { tag: 'HTTP-request-method-invalid' };
  if (body?.state === 'failed') return { tag: 'HTTP-protocol-error' };
  return undefined;
}

/** Where the request goes, if it may. */
function targetOf(policy: OutboundPolicy, warn: (text: string) => void, parts: RequestParts): Target {
  const { authority = '' } = parts;
  if (parts.scheme?.tag === 'other') return { code: { tag: 'HTTP-protocol-error' } };
  const scheme = parts.scheme?.tag === 'HTTP' ? 'http' : 'https';
  const [host = ''] = authority.startsWith('[') ? [authority] : authority.split(':');
  if (selfHosts.has(host.toLowerCase())) return selfTarget(policy, warn, scheme);
  const destination = policy.parse(`${scheme}://${authority}/`);
  if (destination === undefined) return { code: { tag: 'HTTP-request-URI-invalid' } };
  const { self } = policy;
  const isOwn = self !== undefined && destination.host === self.host && destination.port === self.port;
  if (!policy.allows(destination) && !(isOwn && policy.allowsSelf())) {
    for (const line of policy.refusal(destination)) warn(line);
    return { code: { tag: 'HTTP-request-denied' } };
  }
  if (destination.host.endsWith('.spin.internal')) {
    warn(
      `cannot reach "${destination.host}": calls between components of an application are not supported yet`,
    );
    warn(
      'call the component by a public route of the application instead, with "http://self" in "allowed_outbound_hosts"',
    );
    return { code: { tag: 'HTTP-request-denied' } };
  }
  return { destination };
}

/** The listener's own address stands for itself, whatever the request that is being answered says. */
function selfTarget(policy: OutboundPolicy, warn: (text: string) => void, scheme: string): Target {
  if (!policy.allowsSelf()) {
    for (const line of policy.refusal({ scheme, host: 'self', port: scheme === 'https' ? 443 : 80 }))
      warn(line);
    return { code: { tag: 'HTTP-request-denied' } };
  }
  return policy.self === undefined
    ? { code: { tag: 'HTTP-request-URI-invalid' } }
    : { destination: policy.self };
}
