import type { HeaderList } from '../../host/http-exchange.ts';
import type { RoutePattern } from './route-pattern.ts';
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

type Field = readonly [name: string, value: Uint8Array];

/** A field from text in which each character is a byte. */
function field(name: string, value: string): Field {
  return [name, Buffer.from(value, 'latin1')];
}

/** Node's names and values in turn, as pairs. */
export function headerList(flat: readonly string[]): HeaderList {
  const list: Field[] = [];
  for (let index = 0; index + 1 < flat.length; index += 2)
    list.push(field(flat[index] ?? '', flat[index + 1] ?? ''));
  return list;
}

/** The injected headers that are the same for all requests of a route (reference/spin.md 3.1.3). */
export function routeHeaders(pattern: RoutePattern): HeaderList {
  return [
    field('spin-matched-route', pattern.normalized),
    field('spin-base-path', '/'),
    field('spin-raw-component-route', pattern.raw),
    field('spin-component-route', withoutWildcard(pattern.raw)),
  ];
}

/**
 * The headers a guest gets: the client's (names and values in turn) without hop-by-hop fields and without its own
 * `spin-*` fields (which would otherwise pass for ours), then the ones Spin injects (reference/spin.md 3.1.3). Names are
 * lower-case.
 */
export function guestHeaders(
  client: readonly string[],
  line: RequestLine,
  { pathInfo, params, route }: RoutedRequest,
): HeaderList {
  const headers: Field[] = [];
  const named = connectionOptions(client);
  for (let index = 0; index + 1 < client.length; index += 2) {
    const name = (client[index] ?? '').toLowerCase();
    if (!hiddenFields.has(name) && named?.has(name) !== true && !name.startsWith('spin-'))
      headers.push(field(name, client[index + 1] ?? ''));
  }
  headers.push(field('spin-path-info', pathInfo));
  headers.push(field('spin-full-url', `${line.scheme}://${line.host}${line.pathWithQuery}`));
  for (const header of route.headers) headers.push(header);
  headers.push(field('spin-client-addr', line.clientAddress));
  if (params.length > 0) {
    for (const [name, value] of new Map(params))
      headers.push(field(`spin-path-match-${name.replaceAll('_', '-').toLowerCase()}`, value));
  }
  return headers;
}

/** The fields that Connection names: they are for this connection only (RFC 9110 7.6.1). */
function connectionOptions(client: readonly string[]): ReadonlySet<string> | undefined {
  let options: Set<string> | undefined;
  for (let index = 0; index + 1 < client.length; index += 2) {
    const name = client[index] ?? '';
    if (name.length !== 'connection'.length || name.toLowerCase() !== 'connection') continue;
    options ??= new Set();
    for (const option of (client[index + 1] ?? '').split(',')) options.add(option.trim().toLowerCase());
  }
  return options;
}

function withoutWildcard(route: string): string {
  return route.endsWith('/...') ? route.slice(0, -4) : route;
}
