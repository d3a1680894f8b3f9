import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** A random 10.64.0.0/10 network of 4094 addresses that no route of this machine touches. */
export function freeSubnet(routes = readFileSync('/proc/net/route', 'utf8')): string {
  const taken = routeRanges(routes);
  for (let attempt = 0; attempt < 100; attempt++) {
    const start = (10 << 24) + (64 << 16) + randomInt(1024) * 4096;
    const end = start + 4095;
    if (taken.some((range) => range.start <= end && start <= range.end)) continue;
    return `10.${(start >> 16) & 255}.${(start >> 8) & 255}.0/20`;
  }
  throw new Error('no free subnet in 10.64.0.0/10: every one tried meets a route of this machine');
}

/** Interfaces with a route into a network, one per pod that has an address there. */
export function linksInto(subnet: string, routes = readFileSync('/proc/net/route', 'utf8')): string[] {
  const [address = '', bits] = subnet.split('/');
  const start = address.split('.').reduce((value, part) => value * 256 + Number(part), 0);
  const end = start + 2 ** (32 - Number(bits)) - 1;
  return routeRanges(routes)
    .filter((range) => start <= range.start && range.end <= end)
    .map((range) => range.link);
}

/** Destination ranges of /proc/net/route, without the default route; addresses there are little endian hex. */
function routeRanges(text: string): { start: number; end: number; link: string }[] {
  const ranges: { start: number; end: number; link: string }[] = [];
  for (const line of text.split('\n').slice(1)) {
    const fields = line.split('\t');
    const [destination, mask] = [hexAddress(fields[1]), hexAddress(fields[7])];
    if (destination === undefined || mask === undefined || mask === 0) continue;
    ranges.push({ start: destination, end: destination + (2 ** 32 - 1 - mask), link: fields[0] ?? '' });
  }
  return ranges;
}

function hexAddress(hex: string | undefined): number | undefined {
  if (hex === undefined || !/^[0-9A-F]{8}$/.test(hex)) return undefined;
  return Buffer.from(hex, 'hex').readUInt32LE();
}
