import { ShimError } from '../../../error.ts';
import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import {
  checkedName,
  checkValue,
  FieldMap,
  type HeaderError as HeaderError02,
} from '../../wasi/http/fields.ts';

/** wasi:http/types 0.3 `header-error`. */
export type HeaderError = HeaderError02 | { readonly tag: 'size-exceeded' };

/** wasi:http/types 0.3 `fields`. What the guest made is mutable and its own; what belongs to a message is not. */
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

  /** Received trailers: the guest's own, mutable as every `fields` that belongs to no message. */
  static received(scope: InstanceScope, headers: HeaderList): Fields {
    return new Fields(scope, FieldMap.received(scope, headers), true);
  }

  /** WIT `from-list`. Throws a `HeaderError`. */
  static fromList(scope: InstanceScope, entries: readonly (readonly [string, Uint8Array])[]): Fields {
    const map = new FieldMap(scope);
    try {
      for (const [name, value] of entries) {
        const key = checkedName(name);
        checkValue(value);
        sized(() => map.append(key, value));
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
    const map = this.#mutable();
    const key = checkedName(name);
    for (const value of values) checkValue(value);
    sized(() => map.set(key, values));
  }

  delete(name: string): void {
    this.#mutable().set(checkedName(name), []);
  }

  getAndDelete(name: string): readonly Uint8Array[] {
    const map = this.#mutable();
    const key = checkedName(name);
    const values = map.get(key);
    map.set(key, []);
    return values;
  }

  append(name: string, value: Uint8Array): void {
    const map = this.#mutable();
    const key = checkedName(name);
    checkValue(value);
    sized(() => map.append(key, value));
  }

  copyAll(): [name: string, value: Uint8Array][] {
    return this.#map.entries();
  }

  clone(): Fields {
    return new Fields(this.#scope, this.#map.clone(), true);
  }

  #mutable(): FieldMap {
    if (this.#owned) return this.#map;
    const immutable: HeaderError = { tag: 'immutable' };
    throw immutable;
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    if (this.#owned) this.#map.release();
  }
}

/** 0.3 has a code for fields beyond the limit, where 0.2 could only trap. */
function sized<T>(operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    if (!(error instanceof ShimError) || error.code !== 'resource-exhausted') throw error;
    const exceeded: HeaderError = { tag: 'size-exceeded' };
    throw exceeded;
  }
}
