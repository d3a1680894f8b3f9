import { resolve } from 'node:path';
import { quoted } from './manifest-key.ts';
import type { Table } from './manifest-table.ts';
import type {
  ClientTlsConfig,
  KeyValueStoreConfig,
  LlmComputeConfig,
  SqliteDatabaseConfig,
  VariablesProviderConfig,
} from './runtime-config-types.ts';

/** Largest count or size that a configuration may name. */
const maxNumber = Number.MAX_SAFE_INTEGER;

/** An object of the pairs that are defined. Keys are ours, never the document's. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const result: { [K in keyof T]?: Exclude<T[K], undefined> } = {};
  for (const key of Object.keys(fields) as (keyof T)[]) {
    const value = fields[key];
    if (value !== undefined) result[key] = value as Exclude<T[keyof T], undefined>;
  }
  return result;
}

/** A boolean, also written as "true" or "false": spin-operator writes every option as a string. */
export function looseBoolean(table: Table, key: string): boolean | undefined {
  const value = table.raw(key);
  if (typeof value !== 'string') return table.optionalBoolean(key);
  if (value === 'true' || value === 'false') return value === 'true';
  throw table.error(key, `must be true or false, not ${quoted(value)}`);
}

/** A non-negative integer, also written as a string of digits. */
export function looseInteger(table: Table, key: string): number | undefined {
  const value = table.raw(key);
  if (typeof value !== 'string') return table.optionalInteger(key, 0, maxNumber);
  const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw table.error(key, `must be an integer, not ${quoted(value)}`);
  return number;
}

function unknownType(table: Table, type: string, known: readonly string[]): Error {
  return table.error('type', `must be one of ${known.map(quoted).join(', ')}, not ${quoted(type)}`);
}

/** Reads `[key_value_store.<label>]`; file paths are relative to `directory`. */
export function parseKeyValueStore(table: Table, directory: string): KeyValueStoreConfig {
  const type = table.string('type');
  switch (type) {
    case 'spin': {
      table.rejectUnknown(['type', 'path']);
      const path = table.optionalString('path');
      return path === undefined ? { type } : { type, path: resolve(directory, path) };
    }
    case 'redis':
      table.rejectUnknown(['type', 'url']);
      return { type, url: table.string('url') };
    case 'azure_cosmos':
      table.rejectUnknown(['type', 'key', 'account', 'database', 'container']);
      return {
        type,
        ...defined({ key: table.optionalString('key') }),
        account: table.string('account'),
        database: table.string('database'),
        container: table.string('container'),
      };
    case 'aws_dynamo':
      table.rejectUnknown([
        'type',
        'region',
        'table',
        'consistent_read',
        'access_key',
        'secret_key',
        'token',
      ]);
      return {
        type,
        region: table.string('region'),
        table: table.string('table'),
        consistentRead: looseBoolean(table, 'consistent_read') ?? false,
        ...defined({
          accessKey: table.optionalString('access_key'),
          secretKey: table.optionalString('secret_key'),
          token: table.optionalString('token'),
        }),
      };
    default:
      throw unknownType(table, type, ['spin', 'redis', 'azure_cosmos', 'aws_dynamo']);
  }
}

/** Reads `[sqlite_database.<label>]`. */
export function parseSqliteDatabase(table: Table): SqliteDatabaseConfig {
  const type = table.string('type');
  switch (type) {
    case 'spin':
      table.rejectUnknown(['type', 'path', 'allow_attach_file']);
      return {
        type,
        ...defined({ path: table.optionalString('path') }),
        allowAttachFile: looseBoolean(table, 'allow_attach_file') ?? false,
      };
    case 'libsql': {
      table.rejectUnknown(['type', 'url', 'token']);
      const url = table.string('url');
      if (!/^https?:\/\//.test(url)) throw table.error('url', 'must start with "http://" or "https://"');
      return { type, url, token: table.string('token') };
    }
    default:
      throw unknownType(table, type, ['spin', 'libsql']);
  }
}

/** Reads `[llm_compute]`. */
export function parseLlmCompute(table: Table): LlmComputeConfig {
  const type = table.string('type');
  switch (type) {
    case 'spin':
      table.rejectUnknown(['type']);
      return { type };
    case 'remote_http': {
      table.rejectUnknown(['type', 'url', 'auth_token', 'api_type']);
      const apiType = table.optionalString('api_type') ?? 'default';
      if (apiType !== 'default' && apiType !== 'open_ai') {
        throw table.error('api_type', `must be "default" or "open_ai", not ${quoted(apiType)}`);
      }
      return { type, url: table.string('url'), authToken: table.string('auth_token'), apiType };
    }
    default:
      throw unknownType(table, type, ['spin', 'remote_http']);
  }
}

/** Reads one `[[variables_provider]]`; the dotenv path is relative to the working directory, as written. */
export function parseVariablesProvider(table: Table): VariablesProviderConfig {
  const type = table.string('type');
  switch (type) {
    case 'env':
      table.rejectUnknown(['type', 'prefix', 'dotenv_path']);
      return {
        type,
        ...defined({
          prefix: table.optionalString('prefix'),
          dotenvPath: table.optionalString('dotenv_path'),
        }),
      };
    case 'static':
      table.rejectUnknown(['type', 'values']);
      return { type, values: table.stringEntries('values') };
    case 'vault':
      table.rejectUnknown(['type', 'url', 'token', 'mount', 'prefix']);
      return {
        type,
        url: table.string('url'),
        token: table.string('token'),
        mount: table.string('mount'),
        ...defined({ prefix: table.optionalString('prefix') }),
      };
    case 'azure_key_vault':
      table.rejectUnknown(['type', 'vault_url', 'client_id', 'client_secret', 'tenant_id', 'authority_host']);
      return {
        type,
        vaultUrl: table.string('vault_url'),
        ...defined({
          clientId: table.optionalString('client_id'),
          clientSecret: table.optionalString('client_secret'),
          tenantId: table.optionalString('tenant_id'),
          authorityHost: table.optionalString('authority_host'),
        }),
      };
    default:
      throw unknownType(table, type, ['env', 'static', 'vault', 'azure_key_vault']);
  }
}

/** Reads one `[[client_tls]]`; paths are relative to `directory`. */
export function parseClientTls(table: Table, directory: string): ClientTlsConfig {
  table.rejectUnknown([
    'component_ids',
    'hosts',
    'ca_use_platform_roots',
    'ca_use_webpki_roots',
    'ca_roots_file',
    'client_cert_file',
    'client_private_key_file',
  ]);
  const path = (key: string): string | undefined => {
    const written = table.optionalString(key);
    return written === undefined ? undefined : resolve(directory, written);
  };
  const certificateFile = path('client_cert_file');
  const privateKeyFile = path('client_private_key_file');
  if ((certificateFile === undefined) !== (privateKeyFile === undefined)) {
    throw table.error(
      undefined,
      'must have both "client_cert_file" and "client_private_key_file" or neither',
    );
  }
  const rootsFile = path('ca_roots_file');
  // An own roots file replaces the public roots unless they are asked for.
  const publicRoots = rootsFile === undefined;
  return {
    componentIds: table.strings('component_ids'),
    hosts: table.strings('hosts'),
    usePlatformRoots: looseBoolean(table, 'ca_use_platform_roots') ?? publicRoots,
    useWebpkiRoots: looseBoolean(table, 'ca_use_webpki_roots') ?? publicRoots,
    ...defined({ rootsFile, certificateFile, privateKeyFile }),
  };
}
