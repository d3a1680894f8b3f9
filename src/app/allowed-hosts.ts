import {
  type AllowedHostEntry,
  defaultPort,
  internalSuffix,
  parseAllowedHostEntry,
} from './allowed-hosts-entry.ts';
import { networkContains, parseIp } from './allowed-hosts-ip.ts';
import { type Destination, parseDestination } from './allowed-hosts-url.ts';
import { parseTemplate, renderTemplate, templateVariables } from './template.ts';

/** Schemes in which an application can call itself. */
const selfSchemes = ['http', 'https'];

/** What a component may connect to, as a pure value; what no entry allows is denied. */
export class AllowedHosts {
  readonly #entries: readonly AllowedHostEntry[];

  constructor(entries: readonly AllowedHostEntry[]) {
    this.#entries = entries;
  }

  /** Whether a destination with canonical host (see `parseDestination`) is allowed. */
  allows(destination: Destination): boolean {
    return this.#entries.some((entry) => entryAllows(entry, destination));
  }

  /** Whether a URL is allowed; one that cannot be parsed is not. */
  allowsUrl(url: string): boolean {
    const destination = parseDestination(url);
    return destination !== undefined && this.allows(destination);
  }

  /** Whether an entry names this very IP address, or a network of addresses that holds it; `*` does not. */
  namesAddress(ip: string): boolean {
    const address = parseIp(ip);
    if (address === undefined) return false;
    return this.#entries.some(
      ({ host }) => host.kind === 'network' && networkContains(host.network, address),
    );
  }

  /** Whether the component may call its own application in one of the schemes, as relative URLs do. */
  allowsSelf(schemes: readonly string[] = selfSchemes): boolean {
    return this.#entries.some(
      ({ scheme, host }) =>
        (host.kind === 'any' || host.kind === 'self') && (scheme === '*' || schemes.includes(scheme)),
    );
  }
}

function entryAllows(entry: AllowedHostEntry, destination: Destination): boolean {
  if (entry.scheme !== '*' && entry.scheme !== destination.scheme) return false;
  if (destination.port < entry.ports.from || destination.port >= entry.ports.to) return false;
  const pattern = entry.host;
  switch (pattern.kind) {
    case 'any':
      return true;
    case 'name':
      return pattern.name === destination.host;
    case 'subdomains':
      return destination.host.endsWith(pattern.suffix) && destination.host.length > pattern.suffix.length;
    case 'network': {
      const address = parseIp(destination.host);
      return address !== undefined && networkContains(pattern.network, address);
    }
    case 'self':
    case 'services':
      return false;
    default:
      return pattern satisfies never;
  }
}

/**
 * Parses the entries of `allowed_outbound_hosts` of one component, templates already rendered. `componentIds` are all
 * components of the application: `*.spin.internal` stands for exactly these. A bad entry is `invalid-manifest`.
 */
export function parseAllowedHosts(entries: readonly string[], componentIds: Iterable<string>): AllowedHosts {
  const ids = [...componentIds];
  return new AllowedHosts(
    entries.flatMap((written) => {
      const entry = parseAllowedHostEntry(written);
      if (entry.host.kind !== 'services') return [entry];
      return ids.map((id) => ({
        ...entry,
        host: { kind: 'name' as const, name: `${id.toLowerCase()}${internalSuffix}` },
      }));
    }),
  );
}

/**
 * Renders the templates of entries. Entries with templates that leave nothing, or only `http://` or `https://`, are
 * dropped, so that an unset variable grants nothing.
 */
export function renderAllowedHosts(
  entries: readonly string[],
  lookup: (variable: string) => string,
): readonly string[] {
  return entries.flatMap((entry) => {
    const template = parseTemplate(entry);
    if (templateVariables(template).length === 0) return [entry];
    const rendered = renderTemplate(template, lookup).trim();
    return ['', 'http://', 'https://'].includes(rendered) ? [] : [rendered];
  });
}

/**
 * Checks entries when a manifest is loaded: those without templates, and those whose variables all have a default in
 * `defaults`. Throws `invalid-manifest` for the first bad one.
 */
export function checkAllowedHosts(entries: readonly string[], defaults: ReadonlyMap<string, string>): void {
  for (const entry of entries) {
    const names = templateVariables(parseTemplate(entry));
    if (!names.every((name) => defaults.has(name))) continue;
    const rendered = renderAllowedHosts([entry], (name) => defaults.get(name) ?? '');
    parseAllowedHosts(rendered, []);
  }
}

/** The two lines that a refused connection leaves in the container's log: what was refused, and the entry to add. */
export function refusalLines(componentId: string, destination: Destination): readonly [string, string] {
  const implied = entryFor(destination);
  return [
    `component "${componentId}" tried to reach "${implied}", which its manifest does not allow`,
    hintFor(destination),
  ];
}

/** What to add to the manifest so that the destination is allowed. */
export function hintFor(destination: Destination): string {
  return `to allow it, add "${entryFor(destination)}" to "allowed_outbound_hosts" of the component`;
}

function entryFor({ scheme, host, port }: Destination): string {
  return defaultPort(scheme) === port ? `${scheme}://${host}` : `${scheme}://${host}:${port}`;
}
