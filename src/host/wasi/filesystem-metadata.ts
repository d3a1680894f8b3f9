import type { BigIntStats, Dirent } from 'node:fs';
import { nodeCrypto } from '../../node-crypto.ts';
import type { Datetime } from './clocks.ts';

/** wasi:filesystem/types `descriptor-type`. */
export type DescriptorType =
  | 'unknown'
  | 'block-device'
  | 'character-device'
  | 'directory'
  | 'fifo'
  | 'symbolic-link'
  | 'regular-file'
  | 'socket';

/** wasi:filesystem/types `descriptor-stat`. */
export type DescriptorStat = {
  readonly type: DescriptorType;
  readonly linkCount: bigint;
  readonly size: bigint;
  readonly dataAccessTimestamp: Datetime | undefined;
  readonly dataModificationTimestamp: Datetime | undefined;
  readonly statusChangeTimestamp: Datetime | undefined;
};

/** wasi:filesystem/types `metadata-hash-value`. */
export type MetadataHash = { readonly lower: bigint; readonly upper: bigint };

const nanosecondsPerSecond = 1_000_000_000n;

/** What kind of object a directory entry or a stat result describes. */
export function typeOf(entry: Dirent<Buffer> | BigIntStats): DescriptorType {
  if (entry.isFile()) return 'regular-file';
  if (entry.isDirectory()) return 'directory';
  if (entry.isSymbolicLink()) return 'symbolic-link';
  if (entry.isFIFO()) return 'fifo';
  if (entry.isSocket()) return 'socket';
  if (entry.isBlockDevice()) return 'block-device';
  if (entry.isCharacterDevice()) return 'character-device';
  return 'unknown';
}

/** A time before 1970 has no WASI form and is left out. */
function datetime(nanoseconds: bigint): Datetime | undefined {
  if (nanoseconds < 0n) return undefined;
  return {
    seconds: nanoseconds / nanosecondsPerSecond,
    nanoseconds: Number(nanoseconds % nanosecondsPerSecond),
  };
}

export function descriptorStat(stats: BigIntStats): DescriptorStat {
  return {
    type: typeOf(stats),
    linkCount: stats.nlink,
    size: stats.size,
    dataAccessTimestamp: datetime(stats.atimeNs),
    dataModificationTimestamp: datetime(stats.mtimeNs),
    statusChangeTimestamp: datetime(stats.ctimeNs),
  };
}

/**
 * A hash of device and inode, as wasmtime makes it: preview 1 guests take it for the inode number, so it has to stay
 * the same while a file is written to, and across workers.
 */
export function metadataHash(stats: BigIntStats): MetadataHash {
  const digest = nodeCrypto().hash('sha256', `${stats.dev}:${stats.ino}`, 'buffer');
  return { lower: digest.readBigUInt64LE(0), upper: digest.readBigUInt64LE(8) };
}
