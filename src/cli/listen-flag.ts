import { lookup } from 'node:dns/promises';
import { createServer, isIP } from 'node:net';
import { parseListenAddress } from '../engine/listen-address.ts';
import { ShimError } from '../error.ts';
import type { ListenAddress } from '../linux.ts';

/** Ports that `--find-free-port` tries, the one asked for among them. */
export const maxPortAttempts = 10;

/**
 * `HOST:PORT` → an address to listen on. A host name is looked up, and an IPv4 address is preferred.
 * Throws `invalid-argument`, and `not-found` for a name that nothing knows.
 */
export async function resolveListen(text: string): Promise<ListenAddress> {
  const colon = text.lastIndexOf(':');
  const host = text.slice(0, colon);
  const isName = colon > 0 && /^[a-z0-9.-]+$/i.test(host) && isIP(host) === 0 && host !== 'localhost';
  if (!isName) return parseListenAddress(text, '--listen');
  const found = await lookup(host, { order: 'ipv4first' }).catch((cause: unknown) => {
    throw new ShimError(
      'not-found',
      `--listen is "${text}", and the host "${host}" is unknown: give an address such as "127.0.0.1:3000"`,
      { cause },
    );
  });
  const literal = found.family === 6 ? `[${found.address}]` : found.address;
  return parseListenAddress(`${literal}:${text.slice(colon + 1)}`, '--listen');
}

/**
 * The address itself when its port is free, else the same with one of the following ports.
 * Throws `address-in-use` when none is free, `permission-denied` when the port is not ours to take.
 */
export async function findFreePort({ host, port }: ListenAddress): Promise<ListenAddress> {
  const last = Math.min(port + maxPortAttempts - 1, 65_535);
  for (let candidate = port; candidate <= last; candidate += 1) {
    if (await isFree(host, candidate)) return { host, port: candidate };
  }
  throw new ShimError(
    'address-in-use',
    `the ports ${port} to ${last} of "${host}" are all in use: give another with --listen`,
  );
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else
        reject(
          new ShimError(
            error.code === 'EACCES' ? 'permission-denied' : 'invalid-argument',
            `cannot listen on "${host}" port ${port} (${error.code ?? error.message}): give another address with --listen`,
            { cause: error },
          ),
        );
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
