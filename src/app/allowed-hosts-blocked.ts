import { ShimError } from '../error.ts';
import {
  type IpAddress,
  type IpNetwork,
  networkContains,
  parseIp,
  parseIpNetwork,
} from './allowed-hosts-ip.ts';
import { quoted } from './manifest-key.ts';

function networks(...texts: readonly string[]): readonly IpNetwork[] {
  return texts.flatMap((text) => parseIpNetwork(text) ?? []);
}

/** Networks that are not globally routable unicast. */
type Special = {
  /** IANA special-purpose IPv4 registry (RFC 6890 and its updates), multicast and reserved space. */
  readonly v4: readonly IpNetwork[];
  /** All of global unicast IPv6 space that IANA has given out; what lies outside is local, multicast or unassigned. */
  readonly globalV6: readonly IpNetwork[];
  /** Special parts of it: protocol assignments with Teredo, and documentation. */
  readonly v6: readonly IpNetwork[];
  /** IPv6 networks whose addresses stand for an IPv4 address, and the position of its lowest bit. */
  readonly embedding: readonly (readonly [network: IpNetwork, shift: bigint])[];
};

let made: Special | undefined;

/** Made when first asked for: most apps connect to nothing, and reading them takes 6 ms of a worker's boot. */
function special(): Special {
  made ??= {
    v4: networks(
      '0.0.0.0/8',
      '10.0.0.0/8',
      '100.64.0.0/10',
      '127.0.0.0/8',
      '169.254.0.0/16',
      '172.16.0.0/12',
      '192.0.0.0/24',
      '192.0.2.0/24',
      '192.168.0.0/16',
      '198.18.0.0/15',
      '198.51.100.0/24',
      '203.0.113.0/24',
      '224.0.0.0/4',
      '240.0.0.0/4',
    ),
    globalV6: networks('2000::/3'),
    v6: networks('2001::/23', '2001:db8::/32', '3fff::/20'),
    embedding: [
      ...networks('::/96', '64:ff9b::/96').map((network) => [network, 0n] as const),
      ...networks('2002::/16').map((network) => [network, 80n] as const),
    ],
  };
  return made;
}

/** The IPv4 address inside an IPv4-compatible, NAT64 or 6to4 address. */
function embeddedV4(address: IpAddress): IpAddress | undefined {
  const found = special().embedding.find(([network]) => networkContains(network, address));
  return found && { family: 4, bits: (address.bits >> found[1]) & 0xffffffffn };
}

function isSpecial(address: IpAddress): boolean {
  if (address.family === 4) return special().v4.some((network) => networkContains(network, address));
  const inner = embeddedV4(address);
  if (inner !== undefined) return isSpecial(inner);
  return (
    !special().globalV6.some((network) => networkContains(network, address)) ||
    special().v6.some((network) => networkContains(network, address))
  );
}

/** Whether an address is not globally routable unicast; text that is no IP address counts as private. */
export function isPrivateAddress(ip: string): boolean {
  const address = parseIp(ip);
  return address === undefined || isSpecial(address);
}

/** The `block_networks` of a runtime configuration (spin.md 5.1): checked against every address before connecting. */
export class BlockedNetworks {
  readonly #private: boolean;
  readonly #networks: readonly IpNetwork[];

  private constructor(blockPrivate: boolean, blocked: readonly IpNetwork[]) {
    this.#private = blockPrivate;
    this.#networks = blocked;
  }

  /** Parses `private`, addresses and CIDRs; anything else is `invalid-argument`. An empty list blocks nothing. */
  static parse(entries: readonly string[]): BlockedNetworks {
    const blocked = entries
      .filter((entry) => entry !== 'private')
      .map((entry) => {
        const network = parseIpNetwork(entry);
        if (network !== undefined) return network;
        const text = `"block_networks" entry ${quoted(entry)} is neither "private" nor an address nor a CIDR such as "10.0.0.0/8"`;
        throw new ShimError('invalid-argument', text);
      });
    return new BlockedNetworks(entries.includes('private'), blocked);
  }

  /** Whether nothing is blocked at all. */
  get isEmpty(): boolean {
    return !this.#private && this.#networks.length === 0;
  }

  /** Whether a connection to `ip` is forbidden. IPv4 inside IPv6 is also checked as IPv4; no IP address is forbidden. */
  blocks(ip: string): boolean {
    if (this.isEmpty) return false;
    const address = parseIp(ip);
    if (address === undefined) return true;
    if (this.#private && isSpecial(address)) return true;
    const inner = address.family === 6 ? embeddedV4(address) : undefined;
    return this.#networks.some(
      (network) =>
        networkContains(network, address) || (inner !== undefined && networkContains(network, inner)),
    );
  }
}
