import { ShimError } from '../error.ts';
import { addressBytes, type ListenAddress } from '../linux.ts';
import type { EngineClaim } from './messages.ts';

/** Where Spin's HTTP trigger listens in a container when nothing else is said. */
const defaultListenAddress = '0.0.0.0:80';

/** Where the app of a claim wants to listen. Throws `invalid-argument`. */
export function listenAddressOf({ environment, listen }: EngineClaim): ListenAddress {
  const name = 'SPIN_HTTP_LISTEN_ADDR';
  const fromEnvironment = new Map(environment).get(name) ?? '';
  return fromEnvironment === ''
    ? parseListenAddress(listen ?? defaultListenAddress, 'the listen address')
    : parseListenAddress(fromEnvironment, name);
}

/**
 * Parses `host:port`: an IPv4 or bracketed IPv6 literal, `localhost`, or nothing before the colon for all addresses.
 * Throws `invalid-argument` naming where the text came from.
 */
export function parseListenAddress(text: string, where: string): ListenAddress {
  const colon = text.lastIndexOf(':');
  const written = text.slice(0, colon);
  const bracketed = written.startsWith('[') && written.endsWith(']');
  const host = bracketed ? written.slice(1, -1) : written;
  const port = text.slice(colon + 1);
  const literal = host === '' ? '0.0.0.0' : host === 'localhost' ? '127.0.0.1' : host;
  if (
    colon < 0 ||
    !/^\d{1,5}$/.test(port) ||
    Number(port) > 65535 ||
    addressBytes(literal)?.length !== (bracketed ? 16 : 4)
  ) {
    throw new ShimError(
      'invalid-argument',
      `${where} is "${text}", expected an address and a port such as "0.0.0.0:80" or "[::]:80"`,
    );
  }
  return { host: literal, port: Number(port) };
}

/** `host:port` with IPv6 in brackets. */
export function formatAddress({ host, port }: ListenAddress): string {
  return addressBytes(host)?.length === 16 ? `[${host}]:${port}` : `${host}:${port}`;
}
