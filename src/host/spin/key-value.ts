import { type InstanceScope, perScope, type ScopeSource } from '../scope.ts';

/** One store as its backend offers it. Promises reject with an `Error` whose message the guest may read. */
export type KeyValueBackend = {
  get(key: string): Promise<Uint8Array | undefined>;
  set(key: string, value: Uint8Array): Promise<void>;
  /** No error when the key is not there. */
  delete(key: string): Promise<void>;
  exists(key: string): Promise<boolean>;
  keys(): Promise<readonly string[]>;
};

/** The stores that a runtime configuration defines, by label. Asked only for labels that are granted. */
export type KeyValueStores = {
  /** Undefined when no store has that label. May throw; the message reaches the guest. */
  open(label: string): KeyValueBackend | undefined;
};

/** What a component may use: `key_value_stores` of its manifest. */
export type KeyValueGrant = { readonly granted: readonly string[]; readonly stores: KeyValueStores };

/** `fermyon:spin/key-value@2.0.0` `error`. */
export type KeyValueError =
  | { readonly tag: 'store-table-full' }
  | { readonly tag: 'no-such-store' }
  | { readonly tag: 'access-denied' }
  | { readonly tag: 'other'; readonly val: string };

/** Stores that one instance may have open at once (Spin's table capacity). */
export const maxOpenStores = 256;

/** Bytes (UTF-8) of a key. */
export const maxKeyBytes = 64 * 1024;

/** Bytes of a value. */
export const maxValueBytes = 32 * 1024 * 1024;

/** Bytes (UTF-8) of all keys that one `get-keys` may return. */
export const maxKeyListBytes = 16 * 1024 * 1024;

function other(val: string): KeyValueError {
  return { tag: 'other', val };
}

function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes > maxKeyBytes) throw other(`the key is ${bytes} bytes long, the limit is ${maxKeyBytes}`);
}

/** The open stores of one request. */
class StoreTable {
  readonly scope: InstanceScope;
  #open = 0;

  constructor(scope: InstanceScope) {
    this.scope = scope;
  }

  take(): void {
    if (this.#open >= maxOpenStores) throw { tag: 'store-table-full' } satisfies KeyValueError;
    this.#open++;
  }

  giveBack(): void {
    this.#open--;
  }
}

/** `fermyon:spin/key-value@2.0.0` `store`. */
class Store {
  readonly #table: StoreTable;
  readonly #backend: KeyValueBackend;
  #dropped = false;

  constructor(table: StoreTable, backend: KeyValueBackend) {
    this.#table = table;
    this.#backend = backend;
    table.take();
    try {
      table.scope.adopt(this);
    } catch (error) {
      table.giveBack();
      throw error;
    }
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    checkKey(key);
    return this.#ask(() => this.#backend.get(key));
  }

  async set(key: string, value: Uint8Array): Promise<void> {
    checkKey(key);
    if (value.length > maxValueBytes) {
      throw other(`the value is ${value.length} bytes long, the limit is ${maxValueBytes}`);
    }
    const { scope } = this.#table;
    scope.charge(value.length);
    try {
      await this.#ask(() => this.#backend.set(key, value));
    } finally {
      scope.refund(value.length);
    }
  }

  async delete(key: string): Promise<void> {
    checkKey(key);
    return this.#ask(() => this.#backend.delete(key));
  }

  async exists(key: string): Promise<boolean> {
    checkKey(key);
    return this.#ask(() => this.#backend.exists(key));
  }

  async getKeys(): Promise<readonly string[]> {
    return this.#ask(() => this.#backend.keys());
  }

  /** A backend's failure is the guest's `other`; the end of the scope passes through and traps. */
  async #ask<T>(operation: () => Promise<T>): Promise<T> {
    const { scope } = this.#table;
    try {
      return await scope.settle(operation());
    } catch (error) {
      if (scope.ended !== undefined) throw scope.ended;
      throw other(error instanceof Error ? error.message : 'the store failed');
    }
  }

  [Symbol.dispose](): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#table.scope.release(this);
    this.#table.giveBack();
  }
}

async function openStore(grant: KeyValueGrant, table: StoreTable, label: string): Promise<Store> {
  if (!grant.granted.includes(label)) throw { tag: 'access-denied' } satisfies KeyValueError;
  let backend: KeyValueBackend | undefined;
  try {
    backend = grant.stores.open(label);
  } catch (error) {
    throw other(error instanceof Error ? error.message : 'the store cannot be opened');
  }
  if (backend === undefined) throw { tag: 'no-such-store' } satisfies KeyValueError;
  return new Store(table, backend);
}

/** `fermyon:spin/key-value@2.0.0` of one instance (reference/spin.md section 4.2). Only granted labels open. */
export function createKeyValue(grant: KeyValueGrant, source: ScopeSource): ReadonlyMap<string, object> {
  const tableOf = perScope((scope) => new StoreTable(scope));
  // The static function belongs to the instance, the methods to all: a constructor of its own over a shared prototype.
  function InstanceStore(): never {
    throw new TypeError('a store is made by its static function "open"');
  }
  InstanceStore.prototype = Store.prototype;
  InstanceStore.open = (label: string) => openStore(grant, tableOf(source.scope), label);
  return new Map<string, object>([['fermyon:spin/key-value@2.0.0', { Store: InstanceStore }]]);
}

/**
 * Functions that may wait, as jco's `asyncImports` names them. All of them: a store may be across the network, whatever
 * the backend of the day.
 */
export const keyValueAsyncImports: readonly string[] = [
  'fermyon:spin/key-value@2.0.0#[static]store.open',
  'fermyon:spin/key-value@2.0.0#[method]store.get',
  'fermyon:spin/key-value@2.0.0#[method]store.set',
  'fermyon:spin/key-value@2.0.0#[method]store.delete',
  'fermyon:spin/key-value@2.0.0#[method]store.exists',
  'fermyon:spin/key-value@2.0.0#[method]store.get-keys',
];
