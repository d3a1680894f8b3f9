import { ShimError } from '../error.ts';

/** How a config.json is read: values by the place they stand at, `invalid-argument` naming the place where one is wrong. */

/** Bounds on what is read from a config.json; containerd's own are some ten kilobytes. */
export const specLimits = {
  /** Bytes of the file. */
  maxBytes: 4 * 1024 * 1024,
  /** Entries of each list (environment, mounts, arguments …). */
  maxEntries: 10_000,
} as const;

export type JsonObject = ReadonlyMap<string, unknown>;

/** A number that JavaScript's might not hold. */
const longNumber = /\d{16}/;

function wholeNumber(
  _key: string,
  value: unknown,
  { source = '' }: { readonly source?: string } = {},
): unknown {
  const isLong = typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source);
  return isLong ? BigInt(source) : value;
}

export function parseJson(text: string): unknown {
  try {
    // Numbers of 64 bits are kept whole; looking at each one's text costs milliseconds where there are none.
    return longNumber.test(text) ? JSON.parse(text, wholeNumber) : JSON.parse(text);
  } catch (cause) {
    throw new ShimError('invalid-argument', "the container's config.json is not JSON", { cause });
  }
}

export function objectAt(value: unknown, where: string): JsonObject {
  if (value === undefined || value === null) return new Map();
  if (typeof value !== 'object' || Array.isArray(value)) throw invalid(`"${where}" is not a table`);
  return new Map(Object.entries(value));
}

export function listAt(value: unknown, where: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(`"${where}" is not a list`);
  return bounded(value, where);
}

export function stringsAt(value: unknown, where: string): readonly string[] {
  return listAt(value, where).map((entry, index) => {
    if (typeof entry !== 'string') throw invalid(`"${where}[${index}]" is not a string`);
    return entry;
  });
}

export function pairsAt(value: unknown, where: string): readonly (readonly [string, string])[] {
  return bounded([...objectAt(value, where)], where).map(([name, entry]) => {
    if (typeof entry !== 'string') throw invalid(`an entry of "${where}" is not a string`);
    return [name, entry];
  });
}

export function stringAt(value: unknown, where: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw invalid(`"${where}" is not a string`);
  if (value.includes('\0')) throw invalid(`"${where}" holds a NUL byte`);
  return value;
}

const maxUnsigned = 2n ** 64n - 1n;

/** A whole number of 64 bits that is not negative; what is beyond counts as the highest. */
export function unsignedAt(value: unknown, where: string): bigint | undefined {
  const given = typeof value === 'bigint' ? value : numberAt(value, where);
  if (given === undefined) return undefined;
  if (given < 0) throw invalid(`"${where}" is negative`);
  return BigInt(given) > maxUnsigned ? maxUnsigned : BigInt(given);
}

export function numberAt(value: unknown, where: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'number' || !Number.isInteger(value))
    throw invalid(`"${where}" is not a whole number`);
  return value;
}

function bounded<T>(list: readonly T[], where: string): readonly T[] {
  if (list.length <= specLimits.maxEntries) return list;
  throw invalid(`"${where}" has ${list.length} entries; at most ${specLimits.maxEntries} are read`);
}

export function invalid(what: string): ShimError {
  return new ShimError('invalid-argument', `the container's config.json: ${what}`);
}
