import { type ErrorCode, ShimError } from '../error.ts';
import { childPath, nearestKey } from './manifest-key.ts';

/** The document a value was read from, for error texts. */
export type DocumentOrigin = {
  /** What the reader calls the document: a path or a digest. */
  readonly where: string;
  /** Code of every error about its content. */
  readonly code: ErrorCode;
};

/** A plain JSON object without a prototype, so that no key of a document can reach `Object.prototype`. */
export type JsonObject = { readonly [key: string]: JsonValue };
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** Deepest nesting of tables and lists that is followed in a document. */
export const maxDocumentDepth = 64;

function typeName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  switch (typeof value) {
    case 'string':
      return 'a string';
    case 'boolean':
      return 'a boolean';
    case 'bigint':
      return 'an integer';
    case 'number':
      return 'a number';
    default:
      return value instanceof Date ? 'a date' : 'a table';
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/**
 * A table of a parsed TOML or JSON document with typed access. It looks only at own keys, treats `null` as absent, and
 * every error names the document, the path of the value inside it, and what was expected.
 */
export class Table {
  readonly path: string;
  readonly origin: DocumentOrigin;
  readonly #value: Record<string, unknown>;

  private constructor(value: Record<string, unknown>, path: string, origin: DocumentOrigin) {
    this.#value = value;
    this.path = path;
    this.origin = origin;
  }

  /** Wraps a value that has to be a table. `path` is '' for the top of the document. */
  static of(value: unknown, path: string, origin: DocumentOrigin): Table {
    if (!isTable(value)) throw documentError(origin, path, `must be a table, not ${typeName(value)}`);
    return new Table(value, path, origin);
  }

  /** Error about this table (no key) or one of its values. */
  error(key: string | undefined, text: string): ShimError {
    return documentError(this.origin, key === undefined ? this.path : childPath(this.path, key), text);
  }

  keys(): readonly string[] {
    return Object.keys(this.#value).filter((key) => this.has(key));
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /** The value as parsed; undefined if absent or `null`. */
  raw(key: string): unknown {
    return Object.hasOwn(this.#value, key) ? (this.#value[key] ?? undefined) : undefined;
  }

  /** Throws for the first key that is not in `known`, naming the nearest one that is. */
  rejectUnknown(known: readonly string[]): void {
    for (const key of Object.keys(this.#value)) {
      if (known.includes(key)) continue;
      const nearest = nearestKey(key, known);
      const hint = nearest === undefined ? `known keys: ${known.join(', ')}` : `did you mean "${nearest}"?`;
      throw this.error(key, `is an unknown key; ${hint}`);
    }
  }

  optionalString(key: string): string | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'string') return value;
    throw this.error(key, `must be a string, not ${typeName(value)}`);
  }

  string(key: string): string {
    const value = this.optionalString(key);
    if (value === undefined) throw this.error(key, 'is missing: a string is required');
    return value;
  }

  optionalBoolean(key: string): boolean | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.error(key, `must be true or false, not ${typeName(value)}`);
  }

  /** An integer of `min`…`max`, both included. */
  optionalInteger(key: string, min: number, max: number): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isInteger(number)) {
      throw this.error(key, `must be an integer, not ${typeName(value)}`);
    }
    if (number < min || number > max) {
      throw this.error(key, `must be between ${min} and ${max}, not ${String(value)}`);
    }
    return number;
  }

  /** A list of anything; empty if absent. */
  list(key: string): readonly unknown[] {
    const value = this.raw(key);
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw this.error(key, `must be a list, not ${typeName(value)}`);
    return value;
  }

  /** A list of strings; empty if absent. */
  strings(key: string): readonly string[] {
    return this.list(key).map((item, index) => {
      if (typeof item === 'string') return item;
      const path = childPath(childPath(this.path, key), index);
      throw documentError(this.origin, path, `must be a string, not ${typeName(item)}`);
    });
  }

  optionalTable(key: string): Table | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : Table.of(value, childPath(this.path, key), this.origin);
  }

  /** A list of tables; empty if absent. */
  tables(key: string): readonly Table[] {
    const path = childPath(this.path, key);
    return this.list(key).map((item, index) => Table.of(item, childPath(path, index), this.origin));
  }

  /** A map of tables as pairs in document order; empty if absent. */
  tableEntries(key: string): readonly (readonly [name: string, table: Table])[] {
    const table = this.optionalTable(key);
    if (table === undefined) return [];
    return table
      .keys()
      .map((name) => [name, Table.of(table.raw(name), childPath(table.path, name), this.origin)]);
  }

  /** A map of strings as pairs in document order; empty if absent. */
  stringEntries(key: string): readonly (readonly [name: string, value: string])[] {
    const table = this.optionalTable(key);
    return table === undefined ? [] : table.keys().map((name) => [name, table.string(name)]);
  }

  /** The whole table as JSON without prototypes; dates, non-finite and too large numbers are errors. */
  toJson(): JsonObject {
    return tableToJson(this.#value, this.path, this.origin, 0);
  }

  /** One value as JSON; undefined if absent. */
  json(key: string): JsonValue | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : toJson(value, childPath(this.path, key), this.origin, 0);
  }
}

function tableToJson(
  value: Record<string, unknown>,
  path: string,
  origin: DocumentOrigin,
  depth: number,
): JsonObject {
  const result: Record<string, JsonValue> = Object.create(null);
  for (const [key, item] of Object.entries(value)) {
    result[key] = toJson(item, childPath(path, key), origin, depth + 1);
  }
  return result;
}

function toJson(value: unknown, path: string, origin: DocumentOrigin, depth: number): JsonValue {
  if (depth > maxDocumentDepth) {
    throw documentError(origin, path, `is nested deeper than ${maxDocumentDepth} levels`);
  }
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint' || typeof value === 'number') {
    const number = Number(value);
    if (typeof value === 'bigint' && !Number.isSafeInteger(number)) {
      throw documentError(origin, path, `must lie within ±${Number.MAX_SAFE_INTEGER}; write it as a string`);
    }
    if (!Number.isFinite(number)) throw documentError(origin, path, 'must be a finite number');
    return number;
  }
  if (Array.isArray(value)) {
    return value.map((item, index) => toJson(item, childPath(path, index), origin, depth + 1));
  }
  if (isTable(value)) return tableToJson(value, path, origin, depth);
  throw documentError(origin, path, `must not be ${typeName(value)}; write it as a string`);
}

/** Error about the value at `path` of a document. */
export function documentError(origin: DocumentOrigin, path: string, text: string): ShimError {
  const subject = path === '' ? 'the document' : path;
  return new ShimError(origin.code, `${origin.where}: ${subject} ${text}`);
}
