import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { type KeyValueBackend, maxKeyListBytes, maxValueBytes } from './key-value.ts';
import {
  openSqliteKeyValue,
  type SqliteKeyValueStores,
  type SqliteStoreDefinition,
} from './key-value-sqlite.ts';

let folder = '';
let opened: SqliteKeyValueStores[] = [];

function open(definitions: Record<string, SqliteStoreDefinition>): SqliteKeyValueStores {
  const stores = openSqliteKeyValue(new Map(Object.entries(definitions)));
  opened.push(stores);
  return stores;
}

function backend(stores: SqliteKeyValueStores, label: string): KeyValueBackend {
  const found = stores.open(label);
  assert.ok(found);
  return found;
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'kv-sqlite-'));
});
after(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const stores of opened) stores.close();
  opened = [];
});

describe('openSqliteKeyValue', () => {
  it('keeps values of any bytes under keys of any text', async () => {
    const store = backend(
      open({ default: { kind: 'file', path: join(folder, 'a', 'b', 'any.db') } }),
      'default',
    );
    const keys = ['', 'a\0b', '__proto__', "'; DROP TABLE spin_key_value; --", 'ключ', 'x'.repeat(10_000)];
    for (const key of keys) await store.set(key, Buffer.from([0, 255, key.length & 255]));
    await store.set('nothing', new Uint8Array());
    for (const key of keys) {
      assert.deepEqual(Buffer.from((await store.get(key)) ?? []), Buffer.from([0, 255, key.length & 255]));
    }
    assert.deepEqual((await store.get('nothing'))?.length, 0);
    assert.deepEqual((await store.keys()).toSorted(), [...keys, 'nothing'].toSorted());
    await store.set('', Buffer.from('again'));
    assert.equal(Buffer.from((await store.get('')) ?? []).toString(), 'again');
    await store.delete('');
    await store.delete('');
    assert.deepEqual([await store.exists(''), await store.exists('ключ')], [false, true]);
    assert.equal(await store.get(''), undefined);
  });

  it("uses Spin's table, where labels that share a file stay apart", async () => {
    const path = join(folder, 'shared.db');
    const stores = open({ one: { kind: 'file', path }, two: { kind: 'file', path } });
    await backend(stores, 'one').set('key', Buffer.from('1'));
    assert.equal(await backend(stores, 'two').get('key'), undefined);
    await backend(stores, 'two').set('key', Buffer.from('2'));
    const database = new DatabaseSync(path, { readOnly: true });
    assert.deepEqual(
      database
        .prepare(
          'SELECT store, key, CAST(value AS TEXT) AS value, typeof(value) AS type FROM spin_key_value ORDER BY store',
        )
        .all()
        .map((row) => ({ ...row })),
      [
        { store: 'one', key: 'key', value: '1', type: 'blob' },
        { store: 'two', key: 'key', value: '2', type: 'blob' },
      ],
    );
    assert.equal(database.prepare('PRAGMA journal_mode').get()?.journal_mode, 'wal');
    database.close();
  });

  it('reads a file that Spin wrote, and refuses values above the limit in it', async () => {
    const path = join(folder, 'spin.db');
    const database = new DatabaseSync(path);
    database.exec(
      'CREATE TABLE spin_key_value (store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))',
    );
    const insert = database.prepare('INSERT INTO spin_key_value VALUES (?, ?, ?)');
    insert.run('default', 'blob', Buffer.from('b'));
    insert.run('default', 'text', 'tëxt');
    database.exec(`INSERT INTO spin_key_value VALUES ('default', 'most', zeroblob(${maxValueBytes}))`);
    database.exec(`INSERT INTO spin_key_value VALUES ('default', 'more', zeroblob(${maxValueBytes + 1}))`);
    database.close();
    const store = backend(open({ default: { kind: 'file', path } }), 'default');
    assert.equal(Buffer.from((await store.get('blob')) ?? []).toString(), 'b');
    assert.equal(Buffer.from((await store.get('text')) ?? []).toString(), 'tëxt');
    assert.equal((await store.get('most'))?.length, maxValueBytes);
    await assert.rejects(store.get('more'), /is 33554433 bytes long, the limit is 33554432/);
  });

  it('limits what one listing of keys may hold', async () => {
    const store = backend(open({ default: { kind: 'memory', name: 'keys' } }), 'default');
    const half = maxKeyListBytes / 2;
    await store.set('a'.repeat(half), new Uint8Array());
    await store.set('b'.repeat(half), new Uint8Array());
    assert.equal((await store.keys()).length, 2);
    await store.set('c', new Uint8Array());
    await assert.rejects(store.keys(), /the keys are more than/);
  });

  it('knows no label that is not defined', () => {
    const stores = open({ default: { kind: 'memory', name: 'labels' } });
    for (const label of ['other', '__proto__', '../default', ':memory:', 'file:x']) {
      assert.equal(stores.open(label), undefined);
    }
  });

  it('says why a database does not open, without its path', () => {
    writeFileSync(
      join(folder, 'plain'),
      'this is no database, however long it goes on being text'.repeat(40),
    );
    const stores = open({
      below: { kind: 'file', path: join(folder, 'plain', 'x.db') },
      text: { kind: 'file', path: join(folder, 'plain') },
    });
    for (const label of ['below', 'text']) {
      assert.throws(
        () => stores.open(label),
        (error) =>
          error instanceof Error &&
          error.message.startsWith(`the database of key-value store "${label}" cannot be opened: E`) &&
          !error.message.includes(folder),
      );
    }
  });

  it('keeps stores in memory apart by name, and shares them by name', async () => {
    const [one, two] = [
      open({ s: { kind: 'memory', name: 'm' } }),
      open({ s: { kind: 'memory', name: 'm' } }),
    ];
    await backend(one, 's').set('key', Buffer.from('x'));
    assert.equal(await backend(two, 's').exists('key'), true);
    assert.equal(await backend(open({ s: { kind: 'memory', name: '../m?x#' } }), 's').exists('key'), false);
  });

  for (const definition of ['file', 'memory'] as const) {
    it(`serves several workers at once (${definition})`, async () => {
      const shared: SqliteStoreDefinition =
        definition === 'file'
          ? { kind: 'file', path: join(folder, 'workers.db') }
          : { kind: 'memory', name: 'workers' };
      const worker = (name: string): Promise<void> =>
        new Promise((resolve, reject) => {
          const started = new Worker(
            `const { workerData } = require('node:worker_threads');
             import(workerData.module).then(async ({ openSqliteKeyValue }) => {
               const store = openSqliteKeyValue(new Map([['default', workerData.shared]])).open('default');
               for (let i = 0; i < 200; i++) {
                 await store.set(workerData.name + i, new Uint8Array([i]));
                 await store.set('both', new Uint8Array([i]));
               }
             });`,
            {
              eval: true,
              workerData: { name, shared, module: new URL('./key-value-sqlite.ts', import.meta.url).href },
            },
          );
          started.on('error', reject);
          started.on('exit', () => resolve());
        });
      // A file does not exist before its first worker; memory needs a connection that outlives the workers.
      const early = definition === 'memory' ? backend(open({ default: shared }), 'default') : undefined;
      await Promise.all([worker('a'), worker('b'), worker('c')]);
      const mine = early ?? backend(open({ default: shared }), 'default');
      assert.equal((await mine.keys()).length, 601);
      assert.deepEqual(Buffer.from((await mine.get('c199')) ?? []), Buffer.from([199]));
    });
  }
});
