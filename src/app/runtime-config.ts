import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ShimError } from '../error.ts';
import { BlockedNetworks } from './allowed-hosts-blocked.ts';
import type { Table } from './manifest-table.ts';
import { parseToml } from './manifest-toml.ts';
import {
  looseBoolean,
  looseInteger,
  parseClientTls,
  parseKeyValueStore,
  parseLlmCompute,
  parseSqliteDatabase,
  parseVariablesProvider,
} from './runtime-config-sections.ts';
import type { ConnectionLimit, RuntimeConfig } from './runtime-config-types.ts';

/** Largest runtime configuration file (bytes). */
export const maxRuntimeConfigBytes = 1024 * 1024;

const sections = [
  'state_dir',
  'log_dir',
  'max_instance_memory',
  'key_value_store',
  'sqlite_database',
  'llm_compute',
  'variables_provider',
  'config_provider',
  'outbound_networking',
  'client_tls',
  'outbound_http',
  'outbound_redis',
  'outbound_pg',
  'outbound_mysql',
  'outbound_mqtt',
];

/**
 * Parses a runtime configuration (spin.md 5). Relative paths of stores and certificates are resolved against the
 * directory of `where`. Unknown keys and wrong types are `invalid-argument`, with the nearest known key.
 */
export function parseRuntimeConfig(text: string, where: string): RuntimeConfig {
  const top = parseToml(text, { where, code: 'invalid-argument' }, maxRuntimeConfigBytes);
  top.rejectUnknown(sections);
  const directory = dirname(resolve(where));
  const stateDir = top.optionalString('state_dir');
  const logDir = top.optionalString('log_dir');
  const maxInstanceMemory = looseInteger(top, 'max_instance_memory');
  const llm = top.optionalTable('llm_compute');
  return {
    where,
    ...(stateDir !== undefined && { stateDir: stateDir === '' ? null : stateDir }),
    ...(logDir !== undefined && { logDir }),
    ...(maxInstanceMemory !== undefined && { maxInstanceMemory }),
    keyValueStores: top
      .tableEntries('key_value_store')
      .map(([label, table]) => [label, parseKeyValueStore(table, directory)]),
    sqliteDatabases: top
      .tableEntries('sqlite_database')
      .map(([label, table]) => [label, parseSqliteDatabase(table)]),
    ...(llm !== undefined && { llmCompute: parseLlmCompute(llm) }),
    variablesProviders: providerTables(top).map(parseVariablesProvider),
    outboundNetworking: parseNetworking(top),
    clientTls: top.tables('client_tls').map((table) => parseClientTls(table, directory)),
    outboundHttp: parseOutboundHttp(top),
    outboundRedis: parseLimit(top, 'outbound_redis'),
    outboundPg: parseLimit(top, 'outbound_pg'),
    outboundMysql: parseLimit(top, 'outbound_mysql'),
    outboundMqtt: parseMqtt(top),
  };
}

function providerTables(top: Table): readonly Table[] {
  if (top.has('variables_provider') && top.has('config_provider')) {
    throw top.error('config_provider', 'is the old name of "variables_provider"; use only one of them');
  }
  return top.tables(top.has('config_provider') ? 'config_provider' : 'variables_provider');
}

function parseNetworking(top: Table): RuntimeConfig['outboundNetworking'] {
  const table = top.optionalTable('outbound_networking');
  if (table === undefined) return { blockNetworks: [] };
  table.rejectUnknown(['block_networks', 'max_socket_connections', 'max_total_connections']);
  const blockNetworks = table.strings('block_networks');
  try {
    BlockedNetworks.parse(blockNetworks);
  } catch (cause) {
    throw table.error('block_networks', `is wrong: ${ShimError.from(cause).message}`);
  }
  const maxSocketConnections = looseInteger(table, 'max_socket_connections');
  const maxTotalConnections = looseInteger(table, 'max_total_connections');
  return {
    blockNetworks,
    ...(maxSocketConnections !== undefined && { maxSocketConnections }),
    ...(maxTotalConnections !== undefined && { maxTotalConnections }),
  };
}

function parseOutboundHttp(top: Table): RuntimeConfig['outboundHttp'] {
  const table = top.optionalTable('outbound_http');
  if (table === undefined) return { connectionPooling: true };
  table.rejectUnknown(['connection_pooling', 'max_connections', 'max_concurrent_requests']);
  const connections = looseInteger(table, 'max_connections');
  const requests = looseInteger(table, 'max_concurrent_requests');
  if (connections !== undefined && requests !== undefined) {
    throw table.error(
      'max_concurrent_requests',
      'is the old name of "max_connections"; use only one of them',
    );
  }
  const maxConnections = connections ?? requests;
  return {
    // Documented as on; Spin itself turns it off when the table is there without the key.
    connectionPooling: looseBoolean(table, 'connection_pooling') ?? true,
    ...(maxConnections !== undefined && { maxConnections }),
  };
}

function parseLimit(top: Table, key: string): ConnectionLimit {
  const table = top.optionalTable(key);
  table?.rejectUnknown(['max_connections']);
  const maxConnections = table && looseInteger(table, 'max_connections');
  return maxConnections === undefined ? {} : { maxConnections };
}

function parseMqtt(top: Table): RuntimeConfig['outboundMqtt'] {
  const table = top.optionalTable('outbound_mqtt');
  table?.rejectUnknown(['max_payload_size_bytes', 'max_connections']);
  const maxConnections = table && looseInteger(table, 'max_connections');
  const maxPayloadSizeBytes = table && looseInteger(table, 'max_payload_size_bytes');
  return {
    ...(maxConnections !== undefined && { maxConnections }),
    ...(maxPayloadSizeBytes !== undefined && { maxPayloadSizeBytes }),
  };
}

/** The sections of a configuration that this version reads but cannot serve, as `key (type "…")`. */
export function unsupportedSections(config: RuntimeConfig): readonly string[] {
  const found: string[] = [];
  for (const [label, { type }] of config.keyValueStores) {
    if (type !== 'spin') found.push(`key_value_store.${label} (type "${type}")`);
  }
  for (const [label, { type }] of config.sqliteDatabases) {
    if (type !== 'spin') found.push(`sqlite_database.${label} (type "${type}")`);
  }
  if (config.llmCompute !== undefined) found.push(`llm_compute (type "${config.llmCompute.type}")`);
  for (const [index, { type }] of config.variablesProviders.entries()) {
    if (type !== 'env' && type !== 'static') found.push(`variables_provider[${index}] (type "${type}")`);
  }
  return found;
}

/**
 * Reads the runtime configuration at `path` as if it lay at `where` (relative paths in it start from that folder; a
 * container's file is mounted from elsewhere), at most `maxRuntimeConfigBytes`. Undefined if there is none: no such file,
 * an empty one, or a directory, which is what kubelet leaves where an optional secret is missing.
 */
export function readRuntimeConfig(path: string, where = path): RuntimeConfig | undefined {
  const text = readConfigText(path);
  return text === undefined || text.trim() === '' ? undefined : parseRuntimeConfig(text, where);
}

function readConfigText(path: string): string | undefined {
  let fd: number;
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new ShimError('invalid-argument', `runtime config "${path}" cannot be opened: ${String(code)}`, {
      cause,
    });
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) return undefined;
    if (!stat.isFile()) {
      throw new ShimError('invalid-argument', `runtime config "${path}" is not a regular file`);
    }
    if (stat.size > maxRuntimeConfigBytes) {
      const text = `runtime config "${path}" has ${stat.size} bytes, more than the ${maxRuntimeConfigBytes} allowed`;
      throw new ShimError('invalid-argument', text);
    }
    // A bounded read: the file may grow after the check.
    const buffer = Buffer.alloc(maxRuntimeConfigBytes + 1);
    let length = 0;
    while (length < buffer.length) {
      const bytesRead = readSync(fd, buffer, length, buffer.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length).toString('utf8');
  } finally {
    closeSync(fd);
  }
}
