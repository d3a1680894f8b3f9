import { type BigIntStats, fstatSync, utimesSync } from 'node:fs';
import type { Datetime } from './clocks.ts';
import { fail } from './filesystem-error.ts';
import { placeOf } from './filesystem-path.ts';

/** wasi:filesystem/types `new-timestamp`. */
export type NewTimestamp =
  | { readonly tag: 'no-change' }
  | { readonly tag: 'now' }
  | { readonly tag: 'timestamp'; readonly val: Datetime };

/**
 * Sets access and modification time of the object behind `fd` (O_PATH will do; a symlink's own times included). Node
 * passes times on as floating-point seconds, so today's times are kept to a quarter of a microsecond.
 */
export function setTimes(fd: number, access: NewTimestamp, modification: NewTimestamp): void {
  if (access.tag === 'no-change' && modification.tag === 'no-change') return;
  const stats = fstatSync(fd, { bigint: true });
  const now = Date.now() / 1000;
  utimesSync(
    placeOf(fd),
    seconds(access, now, stats, 'atimeNs'),
    seconds(modification, now, stats, 'mtimeNs'),
  );
}

function seconds(
  timestamp: NewTimestamp,
  now: number,
  stats: BigIntStats,
  current: 'atimeNs' | 'mtimeNs',
): number {
  switch (timestamp.tag) {
    case 'no-change':
      return Number(stats[current]) / 1e9;
    case 'now':
      return now;
    case 'timestamp':
      if (timestamp.val.nanoseconds >= 1e9) fail('invalid');
      return Number(timestamp.val.seconds) + timestamp.val.nanoseconds / 1e9;
    default:
      return timestamp satisfies never;
  }
}
