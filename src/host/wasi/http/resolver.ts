import type { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import { addressNotAvailable, HttpFailure } from './error-code.ts';

/** Name servers used at most, as in the C library. */
export const maxNameServers = 3;

/** Search domains used at most (Kubernetes' own limit). */
export const maxSearchDomains = 32;

/** Addresses of one name used at most. */
export const maxAddresses = 64;

/** How names are resolved, from `parseResolvConf` and `parseHosts`. */
export type ResolverConfig = {
  /** IP addresses, with `:port` when it is not 53. */
  readonly servers: readonly string[];
  readonly search: readonly string[];
  /** Names with fewer dots are tried with the search domains first. */
  readonly ndots: number;
  readonly timeoutMs: number;
  readonly attempts: number;
  /** Lower-case name → addresses. */
  readonly hosts: ReadonlyMap<string, readonly string[]>;
};

function words(line: string): readonly string[] {
  return line.split(/[\s]/).filter((word) => word !== '');
}

function option(options: readonly string[], name: string, fallback: number, max: number): number {
  const text = options.findLast((entry) => entry.startsWith(`${name}:`))?.slice(name.length + 1);
  return text === undefined || !/^[0-9]{1,4}$/.test(text) ? fallback : Math.min(Number(text), max);
}

/** resolv.conf(5) and hosts(5) as a configuration. Lines that make no sense are passed over, as the C library does. */
export function parseResolverConfig(resolvConf: string, hosts: string): ResolverConfig {
  const servers: string[] = [];
  const options: string[] = [];
  let search: readonly string[] = [];
  for (const line of resolvConf.split('\n')) {
    const [keyword, ...rest] = words(line.replace(/[#;].*$/, ''));
    const [first] = rest;
    if (keyword === 'nameserver' && first !== undefined && isIP(first) !== 0) servers.push(first);
    else if (keyword === 'search' || keyword === 'domain') search = rest;
    else if (keyword === 'options') options.push(...rest);
  }
  return {
    servers: servers.length === 0 ? ['127.0.0.1'] : servers.slice(0, maxNameServers),
    search: search.slice(0, maxSearchDomains).map((domain) => domain.replace(/\.$/, '').toLowerCase()),
    ndots: option(options, 'ndots', 1, 15),
    timeoutMs: Math.max(1, option(options, 'timeout', 5, 30)) * 1000,
    attempts: Math.max(1, option(options, 'attempts', 2, 5)),
    hosts: parseHosts(hosts),
  };
}

function parseHosts(text: string): ReadonlyMap<string, readonly string[]> {
  const hosts = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [address, ...names] = words(line.replace(/#.*$/, ''));
    if (address === undefined || isIP(address) === 0) continue;
    for (const name of names) {
      const addresses = hosts.get(name.toLowerCase());
      if (addresses === undefined) hosts.set(name.toLowerCase(), [address]);
      else addresses.push(address);
    }
  }
  return hosts;
}

/**
 * Resolves names inside the pod's network. `dns.lookup` would read the node's resolv.conf and run on threads that may
 * belong to another network namespace (reference/engine.md 8).
 */
export class NameResolver {
  readonly #config: ResolverConfig;
  #made: Resolver | undefined;

  constructor(config: ResolverConfig) {
    this.#config = config;
  }

  /** Made for the first name: a thread that boots does not load what only some guests need. */
  get #resolver(): Resolver {
    if (this.#made !== undefined) return this.#made;
    const { timeoutMs: timeout, attempts: tries, servers } = this.#config;
    this.#made = new (process.getBuiltinModule('node:dns/promises').Resolver)({ timeout, tries });
    this.#made.setServers([...servers]);
    return this.#made;
  }

  /** All addresses of a name, IPv4 before IPv6. Throws `HttpFailure` with `DNS-error` or `DNS-timeout`. */
  async resolve(name: string): Promise<readonly string[]> {
    const absolute = name.endsWith('.');
    const bare = (absolute ? name.slice(0, -1) : name).toLowerCase();
    const listed = this.#config.hosts.get(bare);
    if (listed !== undefined) return listed;
    // RFC 6761: never asked of a server.
    if (bare === 'localhost' || bare.endsWith('.localhost')) return ['127.0.0.1', '::1'];
    for (const candidate of absolute ? [bare] : this.#candidates(bare)) {
      const addresses = await this.#query(candidate);
      if (addresses.length > 0) return addresses;
    }
    throw new HttpFailure(addressNotAvailable);
  }

  /** Gives up all queries. */
  close(): void {
    this.#made?.cancel();
  }

  #candidates(name: string): readonly string[] {
    const searched = this.#config.search.map((domain) => (domain === '' ? name : `${name}.${domain}`));
    const dots = name.split('.').length - 1;
    return dots >= this.#config.ndots ? [name, ...searched] : [...searched, name];
  }

  async #query(name: string): Promise<readonly string[]> {
    const answers = await Promise.allSettled([this.#resolver.resolve4(name), this.#resolver.resolve6(name)]);
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (addresses.length > 0) return addresses.slice(0, maxAddresses);
    const silent = answers.some(
      (answer) => answer.status === 'rejected' && codeOf(answer.reason) === 'ETIMEOUT',
    );
    if (silent) throw new HttpFailure({ tag: 'DNS-timeout' });
    return [];
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
