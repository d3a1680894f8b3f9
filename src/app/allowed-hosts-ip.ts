import { isIPv4, isIPv6 } from 'node:net';

/** An IP address as a number; IPv4-mapped IPv6 addresses are IPv4, since that is where the kernel connects to. */
export type IpAddress = { readonly family: 4 | 6; readonly bits: bigint };

/** All addresses whose first `prefix` bits equal those of `base`; host bits of `base` are zero. */
export type IpNetwork = { readonly family: 4 | 6; readonly base: bigint; readonly prefix: number };

const mappedPrefix = 0xffffn;

function v4Bits(text: string): bigint {
  return text.split('.').reduce((bits, octet) => (bits << 8n) | BigInt(octet), 0n);
}

function v6Groups(text: string): readonly bigint[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [BigInt(`0x${group}`)];
    const bits = v4Bits(group);
    return [bits >> 16n, bits & 0xffffn];
  });
}

function v6Bits(text: string): bigint {
  const [head = '', tail] = text.split('::');
  const left = v6Groups(head);
  const right = tail === undefined ? [] : v6Groups(tail);
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => 0n);
  return [...left, ...zeros, ...right].reduce((bits, group) => (bits << 16n) | group, 0n);
}

/** Parses dotted-decimal IPv4 or IPv6 (brackets and zone allowed); undefined for anything else. */
export function parseIp(text: string): IpAddress | undefined {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  if (isIPv4(bare)) return { family: 4, bits: v4Bits(bare) };
  if (!isIPv6(bare)) return undefined;
  const zone = bare.indexOf('%');
  const bits = v6Bits(zone === -1 ? bare : bare.slice(0, zone));
  return bits >> 32n === mappedPrefix ? { family: 4, bits: bits & 0xffffffffn } : { family: 6, bits };
}

/** Parses an address (a network of one) or `address/prefix`; host bits are cut off. Undefined for anything else. */
export function parseIpNetwork(text: string): IpNetwork | undefined {
  const inner = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  const slash = inner.indexOf('/');
  const written = slash === -1 ? inner : inner.slice(0, slash);
  const address = parseIp(written);
  if (address === undefined || written.includes('%')) return undefined;
  const width = address.family === 4 ? 32 : 128;
  if (slash === -1) return { family: address.family, base: address.bits, prefix: width };
  const digits = inner.slice(slash + 1);
  if (!/^\d{1,3}$/.test(digits)) return undefined;
  // A mapped address is written with 128 bits but kept with 32.
  const mapped = address.family === 4 && written.includes(':');
  const prefix = Number(digits) - (mapped ? 96 : 0);
  if (prefix < 0 || prefix > width) return undefined;
  const hostBits = BigInt(width - prefix);
  return { family: address.family, base: (address.bits >> hostBits) << hostBits, prefix };
}

/** Whether the address lies in the network; addresses of the other family never do. */
export function networkContains(network: IpNetwork, address: IpAddress): boolean {
  if (network.family !== address.family) return false;
  const hostBits = BigInt((network.family === 4 ? 32 : 128) - network.prefix);
  return address.bits >> hostBits === network.base >> hostBits;
}
