import { ShimError } from '../../../error.ts';
import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';

/** Values one `fields` may hold. */
export const maxFieldCount = 1_000;

/** Bytes of names and values one `fields` may hold (wasmtime's default). */
export const maxFieldBytes = 128 * 1024;

/** Fields that frame the message or belong to one connection: a guest neither sets nor sees them. */
const forbiddenNames: ReadonlySet<string> = new Set([
  'connection',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

/** wasi:http/types `header-error`. */
export type HeaderError = { readonly tag: 'invalid-syntax' | 'forbidden' | 'immutable' };

const invalidSyntax: HeaderError = { tag: 'invalid-syntax' };
const forbidden: HeaderError = { tag: 'forbidden' };
const immutable: HeaderError = { tag: 'immutable' };

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Whether text is an RFC 9110 token (method or field name). */
export function isToken(text: string): boolean {
  return token.test(text);
}

/** Whether bytes are an RFC 9110 field value: no control characters but the tab. */
function isFieldValue(value: Uint8Array): boolean {
  for (let index = 0; index < value.length; index++) {
    const byte = value[index] ?? 0;
    if ((byte < 0x20 && byte !== 0x09) || byte === 0x7f) return false;
  }
  return true;
}

const none: readonly Uint8Array[] = [];

/**
 * Header or trailer fields: lower-case name → values, in order of first insertion. Charges what it holds to the
 * instance; above `maxFieldCount` or `maxFieldBytes` it throws, which traps the guest (the WIT has no error for it).
 */
export class FieldMap {
  readonly #scope: InstanceScope;
  readonly #values = new Map<string, Uint8Array[]>();
  #count = 0;
  #bytes = 0;

  constructor(scope: InstanceScope) {
    this.#scope = scope;
  }

  /** What a peer sent, without forbidden fields. */
  static received(scope: InstanceScope, headers: HeaderList): FieldMap {
    const map = new FieldMap(scope);
    for (const [name, value] of headers) {
      const key = name.toLowerCase();
      if (!forbiddenNames.has(key)) map.append(key, value);
    }
    return map;
  }

  get(name: string): readonly Uint8Array[] {
    return this.#values.get(name) ?? none;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  append(name: string, value: Uint8Array): void {
    this.#account(1, name.length + value.length);
    const values = this.#values.get(name);
    if (values === undefined) this.#values.set(name, [value]);
    else values.push(value);
  }

  set(name: string, values: readonly Uint8Array[]): void {
    const old = this.get(name);
    const growth = (list: readonly Uint8Array[]): number =>
      list.reduce((sum, value) => sum + name.length + value.length, 0);
    this.#account(values.length - old.length, growth(values) - growth(old));
    if (values.length === 0) this.#values.delete(name);
    else this.#values.set(name, [...values]);
  }

  /** All fields, the values of one name together. */
  entries(): [name: string, value: Uint8Array][] {
    const entries: [string, Uint8Array][] = [];
    for (const [name, values] of this.#values) for (const value of values) entries.push([name, value]);
    return entries;
  }

  clone(): FieldMap {
    const copy = new FieldMap(this.#scope);
    for (const [name, values] of this.#values) copy.set(name, values);
    return copy;
  }

  /** Gives the charge back; the map must not be changed afterwards. */
  release(): void {
    this.#scope.refund(this.#bytes);
    this.#bytes = 0;
  }

  #account(count: number, bytes: number): void {
    if (this.#count + count > maxFieldCount) {
      throw new ShimError('resource-exhausted', `more than ${maxFieldCount} header fields in one message`);
    }
    if (this.#bytes + bytes > maxFieldBytes) {
      throw new ShimError(
        'resource-exhausted',
        `more than ${maxFieldBytes} bytes of header fields in one message`,
      );
    }
    if (bytes >= 0) this.#scope.charge(bytes);
    else this.#scope.refund(-bytes);
    this.#count += count;
    this.#bytes += bytes;
  }
}

/** The name in lower case. Throws a `HeaderError` when a guest may not set it. */
export function checkedName(name: string): string {
  if (name.length > maxFieldBytes || !isToken(name)) throw invalidSyntax;
  const key = name.toLowerCase();
  if (forbiddenNames.has(key)) throw forbidden;
  return key;
}

/** Throws a `HeaderError` when a value may not be sent. */
export function checkValue(value: Uint8Array): void {
  // Longer ones trap in `FieldMap`; scanning them first would only cost time.
  if (value.length <= maxFieldBytes && !isFieldValue(value)) throw invalidSyntax;
}

/** wasi:http/types `fields`. What the guest made is mutable and its own; views of a message's headers are not. */
export class Fields {
  readonly #scope: InstanceScope;
  readonly #map: FieldMap;
  readonly #owned: boolean;

  private constructor(scope: InstanceScope, map: FieldMap, owned: boolean) {
    this.#scope = scope;
    this.#map = map;
    this.#owned = owned;
    scope.adopt(this);
  }

  /** Empty and mutable: the guest's constructor. */
  static create(scope: InstanceScope): Fields {
    return new Fields(scope, new FieldMap(scope), true);
  }

  /** An immutable view of a message's fields, which stay the message's. */
  static view(scope: InstanceScope, map: FieldMap): Fields {
    return new Fields(scope, map, false);
  }

  /** Immutable fields that the guest owns: received trailers. */
  static received(scope: InstanceScope, headers: HeaderList): Fields {
    return new Fields(scope, FieldMap.received(scope, headers), false);
  }

  /** WIT `from-list`. Throws a `HeaderError`. */
  static fromList(scope: InstanceScope, entries: readonly (readonly [string, Uint8Array])[]): Fields {
    const map = new FieldMap(scope);
    try {
      for (const [name, value] of entries) {
        const key = checkedName(name);
        checkValue(value);
        map.append(key, value);
      }
    } catch (error) {
      map.release();
      throw error;
    }
    return new Fields(scope, map, true);
  }

  /** Takes the fields out of a handle that the guest gave away. */
  static take(fields: Fields): FieldMap {
    fields.#scope.release(fields);
    return fields.#owned ? fields.#map : fields.#map.clone();
  }

  get(name: string): readonly Uint8Array[] {
    return this.#map.get(name.toLowerCase());
  }

  has(name: string): boolean {
    return this.#map.has(name.toLowerCase());
  }

  set(name: string, values: readonly Uint8Array[]): void {
    const key = checkedName(name);
    for (const value of values) checkValue(value);
    this.#mutable().set(key, values);
  }

  delete(name: string): void {
    const key = checkedName(name);
    this.#mutable().set(key, []);
  }

  append(name: string, value: Uint8Array): void {
    const key = checkedName(name);
    checkValue(value);
    this.#mutable().append(key, value);
  }

  entries(): [name: string, value: Uint8Array][] {
    return this.#map.entries();
  }

  clone(): Fields {
    return new Fields(this.#scope, this.#map.clone(), true);
  }

  #mutable(): FieldMap {
    if (!this.#owned) throw immutable;
    return this.#map;
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    if (this.#owned) this.#map.release();
  }
}

/**
 * The message's `content-length`: undefined without one, `'invalid'` when it is no decimal number that fits, or when
 * several disagree.
 */
export function contentLengthOf(map: FieldMap): number | 'invalid' | undefined {
  const given = map.get('content-length');
  if (given.length === 0) return undefined;
  const values = given.map((value) => Buffer.from(value).toString('latin1'));
  const [first = ''] = values;
  if (!/^[0-9]{1,15}$/.test(first) || values.some((value) => value !== first)) return 'invalid';
  return Number(first);
}
