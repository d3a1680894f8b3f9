import type { HeaderList } from '../../host/http-exchange.ts';
import type { RoutedRequest } from './router.ts';

/** What the injected headers are made of, besides the route. */
export type RequestLine = {
  readonly scheme: 'http' | 'https';
  /** The Host header as the client sent it. */
  readonly host: string;
  readonly pathWithQuery: string;
  /** `ip:port` of the TCP peer. */
  readonly clientAddress: string;
};

/** Hop-by-hop fields and those a guest never sees; `host` is the request's authority. */
const hiddenFields = new Set([
  'connection',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

/**
 * The headers a guest gets: the client's without hop-by-hop fields and without its own `spin-*` fields (which would
 * otherwise pass for ours), then the ones Spin injects (reference/spin.md 3.1.3). Names are lower-case.
 */
export function guestHeaders(client: HeaderList, line: RequestLine, routed: RoutedRequest): HeaderList {
  const { pattern } = routed.route;
  const headers: (readonly [string, Uint8Array])[] = [];
  const named = connectionOptions(client);
  for (const [name, value] of client) {
    const lower = name.toLowerCase();
    if (!hiddenFields.has(lower) && !named.has(lower) && !lower.startsWith('spin-'))
      headers.push([lower, value]);
  }
  const add = (name: string, value: string): void => {
    headers.push([name, Buffer.from(value, 'latin1')]);
  };
  add('spin-path-info', routed.pathInfo);
  add('spin-full-url', `${line.scheme}://${line.host}${line.pathWithQuery}`);
  add('spin-matched-route', pattern.normalized);
  add('spin-base-path', '/');
  add('spin-raw-component-route', pattern.raw);
  add('spin-component-route', withoutWildcard(pattern.raw));
  add('spin-client-addr', line.clientAddress);
  for (const [name, value] of new Map(routed.params)) {
    add(`spin-path-match-${name.replaceAll('_', '-').toLowerCase()}`, value);
  }
  return headers;
}

/** The fields that Connection names: they are for this connection only (RFC 9110 7.6.1). */
function connectionOptions(client: HeaderList): ReadonlySet<string> {
  const options = new Set<string>();
  for (const [name, value] of client) {
    if (name.toLowerCase() !== 'connection') continue;
    for (const option of Buffer.from(value).toString('latin1').split(','))
      options.add(option.trim().toLowerCase());
  }
  return options;
}

function withoutWildcard(route: string): string {
  return route.endsWith('/...') ? route.slice(0, -4) : route;
}
