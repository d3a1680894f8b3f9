import { canonicalHost, defaultPort } from './allowed-hosts-entry.ts';

/** Where a guest wants to connect: lower-case scheme without colon, canonical host, port. */
export type Destination = { readonly scheme: string; readonly host: string; readonly port: number };

/** Longest URL (UTF-16 units) that is looked at. */
export const maxDestinationUrlLength = 65536;

/**
 * The destination of a URL, parsed as web browsers do; undefined (to be denied) if it does not parse or has neither a
 * port nor a scheme that implies one.
 */
export function parseDestination(url: string): Destination | undefined {
  if (url.length > maxDestinationUrlLength) return undefined;
  const parsed = URL.parse(url);
  if (parsed === null || parsed.hostname === '') return undefined;
  const scheme = parsed.protocol.slice(0, -1);
  // Hosts of schemes that are not the web's are left as written by the parser.
  const host = canonicalHost(parsed.hostname);
  const port = parsed.port === '' ? defaultPort(scheme) : Number(parsed.port);
  return host === undefined || port === undefined ? undefined : { scheme, host, port };
}

/**
 * The destination of a database or broker address. `scheme` is assumed if the address has none; user information may
 * hold any character but `/`. Callers have to connect to the host and port given here, not to what another parser makes
 * of the address.
 */
export function parseDatabaseDestination(address: string, scheme: string): Destination | undefined {
  if (address.length > maxDestinationUrlLength) return undefined;
  const full = address.includes('://') ? address : `${scheme}://${address}`;
  const start = full.indexOf('://') + 3;
  const slash = full.indexOf('/', start);
  const at = full.lastIndexOf('@', slash === -1 ? full.length : slash);
  return parseDestination(at < start ? full : full.slice(0, start) + full.slice(at + 1));
}
