import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstanceScope } from '../scope.ts';
import {
  createKeyValue,
  type KeyValueBackend,
  type KeyValueStores,
  maxKeyBytes,
  maxOpenStores,
  maxValueBytes,
} from './key-value.ts';

type Store = {
  get(key: string): Promise<Uint8Array | undefined>;
  set(key: string, value: Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
  exists(key: string): Promise<boolean>;
  getKeys(): Promise<string[]>;
  [Symbol.dispose](): void;
};

type StoreClass = { new (): Store; open(label: string): Promise<Store> };

function memory(): KeyValueBackend {
  const values = new Map<string, Uint8Array>();
  return {
    get: async (key) => values.get(key),
    set: async (key, value) => void values.set(key, value),
    delete: async (key) => void values.delete(key),
    exists: async (key) => values.has(key),
    keys: async () => [...values.keys()],
  };
}

function storeClass(
  stores: KeyValueStores,
  granted: readonly string[],
  scope = new InstanceScope(),
): StoreClass {
  const interfaces = createKeyValue({ granted, stores }, scope);
  return (interfaces.get('fermyon:spin/key-value@2.0.0') as { Store: StoreClass }).Store;
}

async function tagOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => ({ tag: 'nothing was thrown' }),
    (thrown: unknown) => thrown,
  );
  return (error as { tag: string }).tag;
}

describe('createKeyValue', () => {
  it('opens granted labels only', async () => {
    const asked: string[] = [];
    const stores: KeyValueStores = {
      open: (label) => {
        asked.push(label);
        return label === 'gone' ? undefined : memory();
      },
    };
    const Store = storeClass(stores, ['default', 'gone']);
    assert.ok((await Store.open('default')) instanceof Store);
    for (const label of ['', 'other', 'DEFAULT', 'default ', '../default', '__proto__', 'constructor']) {
      assert.equal(await tagOf(Store.open(label)), 'access-denied', label);
    }
    assert.equal(await tagOf(Store.open('gone')), 'no-such-store');
    assert.deepEqual(asked, ['default', 'gone']);
    assert.throws(() => new Store(), TypeError);
  });

  it('passes every function on to the backend', async () => {
    const backend = memory();
    const store = await storeClass({ open: () => backend }, ['default']).open('default');
    await store.set('', Buffer.from('empty'));
    await store.set('__proto__', Buffer.from('x'));
    assert.deepEqual(await store.get('__proto__'), Buffer.from('x'));
    assert.equal(await store.get('constructor'), undefined);
    assert.deepEqual([await store.exists(''), await store.exists('no')], [true, false]);
    assert.deepEqual(await store.getKeys(), ['', '__proto__']);
    await store.delete('');
    await store.delete('');
    assert.deepEqual(await store.getKeys(), ['__proto__']);
  });

  it('has a table of 256 stores', async () => {
    const scope = new InstanceScope();
    const Store = storeClass({ open: memory }, ['default'], scope);
    const first = await Store.open('default');
    for (let open = 1; open < maxOpenStores; open++) await Store.open('default');
    assert.equal(await tagOf(Store.open('default')), 'store-table-full');
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    await Store.open('default');
    assert.equal(await tagOf(Store.open('default')), 'store-table-full');
    assert.equal(scope.openHandles, maxOpenStores);
  });

  it('limits keys and values', async () => {
    const store = await storeClass({ open: memory }, ['default']).open('default');
    const longest = 'ü'.repeat(maxKeyBytes / 2);
    await store.set(longest, Buffer.from('x'));
    assert.equal(await tagOf(store.set(`${longest}x`, Buffer.from('x'))), 'other');
    for (const call of ['get', 'exists', 'delete'] as const) {
      assert.equal(await tagOf(store[call](`${longest}x`)), 'other');
    }
    await store.set('large', Buffer.alloc(maxValueBytes));
    assert.equal(await tagOf(store.set('large', Buffer.alloc(maxValueBytes + 1))), 'other');
  });

  it('charges values while they wait for the backend', async () => {
    let finish = (): void => {};
    const waiting: KeyValueBackend = {
      ...memory(),
      set: () =>
        new Promise((resolve) => {
          finish = resolve;
        }),
    };
    const scope = new InstanceScope({ maxHandles: 10, maxHeldBytes: 10 });
    const store = await storeClass({ open: () => waiting }, ['default'], scope).open('default');
    const first = store.set('a', Buffer.alloc(6));
    await assert.rejects(store.set('b', Buffer.alloc(6)), /maxHeldBytes/);
    finish();
    await first;
    const second = store.set('b', Buffer.alloc(6));
    finish();
    await second;
  });

  it("answers a backend's failure with its text and the end of the scope with a trap", async () => {
    const failing: KeyValueBackend = {
      ...memory(),
      get: () => Promise.reject(new Error('database is locked')),
      keys: () => new Promise(() => {}),
    };
    const scope = new InstanceScope();
    const store = await storeClass({ open: () => failing }, ['default'], scope).open('default');
    const error: unknown = await store.get('x').catch((thrown: unknown) => thrown);
    assert.deepEqual(error, { tag: 'other', val: 'database is locked' });
    const pending = store.getKeys();
    scope.end(new Error('over'));
    await assert.rejects(pending, /over/);
    const unopenable = storeClass(
      {
        open: () => {
          throw new Error('no disk');
        },
      },
      ['default'],
    );
    assert.equal(await tagOf(unopenable.open('default')), 'other');
  });
});
