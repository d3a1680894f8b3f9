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

/** Destination ranges of /proc/net/route, without the default route; addresses there are little endian hex. */
function routeRanges(text: string): { start: number; end: number }[] {
  const ranges: { start: number; end: number }[] = [];
  for (const line of text.split('\n').slice(1)) {
    const fields = line.split('\t');
    const [destination, mask] = [hexAddress(fields[1]), hexAddress(fields[7])];
    if (destination === undefined || mask === undefined || mask === 0) continue;
    ranges.push({ start: destination, end: destination + (2 ** 32 - 1 - mask) });
  }
  return ranges;
}

function hexAddress(hex: string | undefined): number | undefined {
  if (hex === undefined || !/^[0-9A-F]{8}$/.test(hex)) return undefined;
  return Buffer.from(hex, 'hex').readUInt32LE();
}
