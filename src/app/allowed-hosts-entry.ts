import { ShimError } from '../error.ts';
import { type IpNetwork, parseIpNetwork } from './allowed-hosts-ip.ts';
import { quoted } from './manifest-key.ts';

/** Which hosts an entry stands for. */
export type HostPattern =
  | { readonly kind: 'any' }
  | { readonly kind: 'name'; readonly name: string }
  /** Names that end in `suffix`, which starts with a dot. */
  | { readonly kind: 'subdomains'; readonly suffix: string }
  | { readonly kind: 'network'; readonly network: IpNetwork }
  /** The application itself. */
  | { readonly kind: 'self' }
  /** Every component of the application (`*.spin.internal`). */
  | { readonly kind: 'services' };

/** Ports `from` (included) to `to` (excluded). */
export type PortRange = { readonly from: number; readonly to: number };

/** One parsed entry of `allowed_outbound_hosts`; scheme `*` stands for all. */
export type AllowedHostEntry = {
  readonly scheme: string;
  readonly host: HostPattern;
  readonly ports: PortRange;
};

/** Suffix of the names by which components call each other. */
export const internalSuffix = '.spin.internal';

/** Longest entry (UTF-16 units). */
export const maxAllowedHostLength = 1024;

const allPorts: PortRange = { from: 0, to: 65536 };

const defaultPorts = new Map([
  ['http', 80],
  ['https', 443],
  ['postgres', 5432],
  ['mysql', 3306],
  ['redis', 6379],
  ['mqtt', 1883],
]);

/** The port that a scheme implies, without the colon; undefined for schemes that need an explicit one. */
export function defaultPort(scheme: string): number | undefined {
  return defaultPorts.get(scheme);
}

/**
 * Host name as WHATWG URL parsing of a web address leaves it: lower case, IDN in ASCII, every number form of an IPv4
 * address in dotted decimal, IPv6 in brackets. Undefined if it is not one host.
 */
export function canonicalHost(host: string): string | undefined {
  // What could end the host part of a URL must not reach the parser.
  if (host === '' || /[\s/\\?#@]/.test(host)) return undefined;
  const url = URL.parse(`http://${host}/`);
  if (url === null || url.port !== '' || url.username !== '') return undefined;
  // A colon outside brackets is a port, also the scheme's own one, which the parser drops.
  if (!host.startsWith('[') && host.includes(':')) return undefined;
  if (host.startsWith('[') && !host.endsWith(']')) return undefined;
  return url.hostname;
}

function invalid(entry: string, text: string): ShimError {
  return new ShimError('invalid-manifest', `"allowed_outbound_hosts" entry ${quoted(entry)} ${text}`);
}

/** Parses one entry without templates (spin.md 1.6); throws `invalid-manifest` with what to write instead. */
export function parseAllowedHostEntry(written: string): AllowedHostEntry {
  const entry = written.trim();
  if (entry.length > maxAllowedHostLength) {
    throw invalid(entry, `has ${entry.length} characters, more than the ${maxAllowedHostLength} allowed`);
  }
  const schemeEnd = entry.indexOf('://');
  if (schemeEnd === -1) {
    const all = ['', '*', ':', '?', 'insecure:allow-all'].includes(entry);
    throw invalid(entry, all ? 'is not valid; to allow everything use "*://*:*"' : missingScheme(entry));
  }
  const scheme = entry.slice(0, schemeEnd);
  if (scheme !== '*' && !/^[A-Za-z]+$/.test(scheme)) {
    throw invalid(entry, 'must start with a scheme of letters or "*", such as "https://"');
  }
  const rest = entry.slice(schemeEnd + 3);
  if (rest.includes('{') || rest.includes('}'))
    throw invalid(entry, 'has a list in braces: not yet supported');
  if (rest.includes('@')) throw invalid(entry, 'must not have user information before the host');
  const { host, port } = splitPort(rest);
  return { scheme, host: parseHost(entry, host), ports: parsePorts(entry, port, scheme) };
}

function missingScheme(entry: string): string {
  return `has no scheme; write ${quoted(`https://${entry}`)} or ${quoted(`*://${entry}`)}`;
}

/** Splits at the last colon outside brackets; one slash at the end means nothing. */
function splitPort(rest: string): { readonly host: string; readonly port: string | undefined } {
  const bare = rest.endsWith('/') ? rest.slice(0, -1) : rest;
  const colon = bare.lastIndexOf(':');
  if (colon === -1 || colon < bare.lastIndexOf(']')) return { host: bare, port: undefined };
  return { host: bare.slice(0, colon), port: bare.slice(colon + 1) };
}

function parseHost(entry: string, host: string): HostPattern {
  if (host === '*') return { kind: 'any' };
  if (host === 'self' || host === 'self.alt') return { kind: 'self' };
  // Both [fe80::/10] and [fe80::]/10 are networks.
  const network = parseIpNetwork(host.startsWith('[') ? host.replace('[', '').replace(']', '') : host);
  if (network !== undefined) return { kind: 'network', network };
  if (host.includes('/')) throw invalid(entry, 'must not have a path');
  if (host === `*${internalSuffix}`) return { kind: 'services' };
  const wildcard = host.startsWith('*.');
  const name = wildcard ? host.slice(2) : host;
  if (name.includes('*')) throw invalid(entry, 'may have "*" only as the whole host or as its first label');
  const canonical = canonicalHost(name);
  if (canonical === undefined) throw invalid(entry, 'has no valid host');
  const numeric = parseIpNetwork(canonical);
  if (numeric === undefined) {
    return wildcard ? { kind: 'subdomains', suffix: `.${canonical}` } : { kind: 'name', name: canonical };
  }
  if (wildcard) throw invalid(entry, 'has a wildcard before an address; use a CIDR such as "10.0.0.0/8"');
  return { kind: 'network', network: numeric };
}

function parsePorts(entry: string, port: string | undefined, scheme: string): PortRange {
  if (port === undefined) {
    const implied = defaultPort(scheme);
    if (implied !== undefined) return { from: implied, to: implied + 1 };
    throw invalid(entry, `needs a port, since ${quoted(scheme)} implies none; add ":*" for all`);
  }
  if (port === '*') return allPorts;
  const slash = port.indexOf('/');
  if (slash !== -1) throw invalid(entry, 'must not have a path');
  const [first = '', last, ...more] = port.split('..');
  const from = parsePort(first, 65535);
  const to = last === undefined ? from : parsePort(last, 65536);
  if (from === undefined || to === undefined || more.length > 0) {
    throw invalid(entry, 'must have a port number, a range such as "8000..9000", or "*" after the host');
  }
  if (last === undefined) return { from, to: from + 1 };
  if (to <= from) throw invalid(entry, 'has an empty port range: the end is not part of it');
  return { from, to };
}

function parsePort(text: string, max: number): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= max ? port : undefined;
}

/**
 * The component id of an entry for `<id>.spin.internal`, `*` for all components; undefined for other hosts and for
 * entries with templates.
 */
export function internalServiceOf(entry: string): string | undefined {
  if (entry.includes('{{')) return undefined;
  const { host } = parseAllowedHostEntry(entry);
  if (host.kind === 'services') return '*';
  return host.kind === 'name' && host.name.endsWith(internalSuffix)
    ? host.name.slice(0, -internalSuffix.length)
    : undefined;
}
