import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { ShimError } from '../../error.ts';
import { type KeyValueBackend, type KeyValueStores, maxKeyListBytes, maxValueBytes } from './key-value.ts';

/** Where a store lives (`[key_value_store.<label>]` with `type = "spin"`). */
export type SqliteStoreDefinition =
  | { readonly kind: 'file' /** Absolute path; missing folders are made. */; readonly path: string }
  | {
      readonly kind: 'memory';
      /** Connections of this process with the same name see the same data, in whatever worker they are. */
      readonly name: string;
    };

/** Milliseconds an operation waits for another connection's write before it fails with "database is locked". */
export const busyTimeoutMilliseconds = 2000;

const createTable = `CREATE TABLE IF NOT EXISTS spin_key_value (
  store TEXT NOT NULL,
  key   TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (store, key)
)`;

/** One connection: every label that a definition serves shares it, told apart by the column `store`. */
class SqliteKeyValue {
  readonly #database: DatabaseSync;
  readonly #get: StatementSync;
  readonly #set: StatementSync;
  readonly #delete: StatementSync;
  readonly #exists: StatementSync;
  readonly #keys: StatementSync;

  constructor(definition: SqliteStoreDefinition) {
    this.#database = new DatabaseSync(location(definition), {
      allowExtension: false,
      timeout: busyTimeoutMilliseconds,
    });
    try {
      if (definition.kind === 'file') {
        // Readers and the writer of several workers then do not hold one another up; losing the last writes to a
        // power cut is accepted, a damaged file is not.
        this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
      }
      this.#database.exec(createTable);
      this.#get = this.#database.prepare(
        `SELECT octet_length(value) AS size, CASE WHEN octet_length(value) <= ${maxValueBytes} THEN value END AS value
         FROM spin_key_value WHERE store = ? AND key = ?`,
      );
      this.#set = this.#database.prepare(
        `INSERT INTO spin_key_value (store, key, value) VALUES (?, ?, ?)
         ON CONFLICT (store, key) DO UPDATE SET value = excluded.value`,
      );
      this.#delete = this.#database.prepare('DELETE FROM spin_key_value WHERE store = ? AND key = ?');
      this.#exists = this.#database.prepare('SELECT 1 FROM spin_key_value WHERE store = ? AND key = ?');
      this.#keys = this.#database.prepare('SELECT key FROM spin_key_value WHERE store = ?');
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** The part of the table that belongs to `label`. */
  store(label: string): KeyValueBackend {
    return {
      get: async (key) => {
        const row = this.#get.get(label, key);
        if (row === undefined) return undefined;
        if (row.value instanceof Uint8Array) return row.value;
        // Only a foreign program writes text here, and only one without our limit writes more than it allows.
        if (typeof row.value === 'string') return Buffer.from(row.value);
        throw new Error(`the value is ${row.size} bytes long, the limit is ${maxValueBytes}`);
      },
      set: async (key, value) => {
        this.#set.run(label, key, value);
      },
      delete: async (key) => {
        this.#delete.run(label, key);
      },
      exists: async (key) => this.#exists.get(label, key) !== undefined,
      keys: async () => {
        const keys: string[] = [];
        let bytes = 0;
        for (const { key } of this.#keys.iterate(label)) {
          const text = String(key);
          bytes += Buffer.byteLength(text);
          if (bytes > maxKeyListBytes) {
            throw new Error(`the keys are more than ${maxKeyListBytes} bytes long together`);
          }
          keys.push(text);
        }
        return keys;
      },
    };
  }

  close(): void {
    this.#database.close();
  }
}

/** Tries at opening a database that another connection is setting up at the same moment. */
const maxOpenAttempts = 20;

/** Milliseconds between two such tries. */
const openRetryMilliseconds = 10;

/**
 * Opens a connection. When several find a new file, turning it to WAL fails with SQLITE_BUSY at once in all but one,
 * whatever the busy timeout is, because waiting could deadlock.
 */
function connectPatiently(definition: SqliteStoreDefinition): SqliteKeyValue {
  for (let attempts = 1; ; attempts++) {
    try {
      return new SqliteKeyValue(definition);
    } catch (error) {
      if (!isBusy(error) || attempts >= maxOpenAttempts) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, openRetryMilliseconds);
    }
  }
}

function isBusy(error: unknown): boolean {
  const sqliteBusy = 5;
  return error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy;
}

/** Opens the database of `label`. The message is for the guest and names no path; the cause is kept. */
function connect(label: string, definition: SqliteStoreDefinition): SqliteKeyValue {
  try {
    return connectPatiently(definition);
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason';
    throw new ShimError(
      'unavailable',
      `the database of key-value store "${label}" cannot be opened: ${reason}`,
      {
        cause: error,
      },
    );
  }
}

function location(definition: SqliteStoreDefinition): string {
  if (definition.kind === 'memory') return `file:/${encodeURIComponent(definition.name)}?vfs=memdb`;
  mkdirSync(dirname(definition.path), { recursive: true });
  return definition.path;
}

/** The stores of this worker over SQLite; `close` ends their connections. */
export type SqliteKeyValueStores = KeyValueStores & { close(): void };

/**
 * Key-value stores in SQLite, table and meaning as Spin's (reference/spin.md section 4.2). A definition is opened when
 * one of its labels is first used, once per worker; several workers and processes may share a file.
 */
export function openSqliteKeyValue(
  definitions: ReadonlyMap<string, SqliteStoreDefinition>,
): SqliteKeyValueStores {
  const connections = new Map<string, SqliteKeyValue>();
  return {
    open(label) {
      const definition = definitions.get(label);
      if (definition === undefined) return undefined;
      const place = definition.kind === 'file' ? `file ${definition.path}` : `memory ${definition.name}`;
      let connection = connections.get(place);
      if (connection === undefined) {
        connection = connect(label, definition);
        connections.set(place, connection);
      }
      return connection.store(label);
    },
    close() {
      for (const connection of connections.values()) connection.close();
      connections.clear();
    },
  };
}
