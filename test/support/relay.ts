import type { Duplex } from 'node:stream';

/** Passes on what comes from either of two sockets to the other, until one of them fails. */
export function relay(one: Duplex, other: Duplex): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on('error', () => to.destroy());
    from.pipe(to);
  }
}
