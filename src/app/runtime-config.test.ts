import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import {
  maxRuntimeConfigBytes,
  parseRuntimeConfig,
  readRuntimeConfig,
  unsupportedSections,
} from './runtime-config.ts';

const parse = (text: string) => parseRuntimeConfig(text, '/etc/app/runtime-config.toml');

test('every section is read', () => {
  const config = parse(`
state_dir = "/state"
log_dir = "logs"
max_instance_memory = 1048576
[key_value_store.default]
type = "spin"
path = "kv.db"
[key_value_store.memory]
type = "spin"
[key_value_store.cache]
type = "redis"
url = "redis://x"
[key_value_store.azure]
type = "azure_cosmos"
account = "a"
database = "d"
container = "c"
[key_value_store.aws]
type = "aws_dynamo"
region = "r"
table = "t"
consistent_read = "true"
[sqlite_database.default]
type = "spin"
path = "data.db"
allow_attach_file = "false"
[sqlite_database.remote]
type = "libsql"
url = "https://x"
token = "t"
[llm_compute]
type = "remote_http"
url = "https://llm"
auth_token = "t"
[[variables_provider]]
type = "azure_key_vault"
vault_url = "https://v"
[outbound_networking]
block_networks = ["private", "1.2.3.0/24"]
max_socket_connections = 5
[[client_tls]]
component_ids = ["web"]
hosts = ["x"]
ca_roots_file = "ca.pem"
[outbound_http]
max_connections = 0
[outbound_redis]
max_connections = "7"
[outbound_mqtt]
max_payload_size_bytes = 10
`);
  assert.deepEqual(config, {
    where: '/etc/app/runtime-config.toml',
    stateDir: '/state',
    logDir: 'logs',
    maxInstanceMemory: 1048576,
    keyValueStores: [
      ['default', { type: 'spin', path: '/etc/app/kv.db' }],
      ['memory', { type: 'spin' }],
      ['cache', { type: 'redis', url: 'redis://x' }],
      ['azure', { type: 'azure_cosmos', account: 'a', database: 'd', container: 'c' }],
      ['aws', { type: 'aws_dynamo', region: 'r', table: 't', consistentRead: true }],
    ],
    sqliteDatabases: [
      ['default', { type: 'spin', path: 'data.db', allowAttachFile: false }],
      ['remote', { type: 'libsql', url: 'https://x', token: 't' }],
    ],
    llmCompute: { type: 'remote_http', url: 'https://llm', authToken: 't', apiType: 'default' },
    variablesProviders: [{ type: 'azure_key_vault', vaultUrl: 'https://v' }],
    outboundNetworking: { blockNetworks: ['private', '1.2.3.0/24'], maxSocketConnections: 5 },
    clientTls: [
      {
        componentIds: ['web'],
        hosts: ['x'],
        usePlatformRoots: false,
        useWebpkiRoots: false,
        rootsFile: '/etc/app/ca.pem',
      },
    ],
    outboundHttp: { connectionPooling: true, maxConnections: 0 },
    outboundRedis: { maxConnections: 7 },
    outboundPg: {},
    outboundMysql: {},
    outboundMqtt: { maxPayloadSizeBytes: 10 },
  });
  assert.deepEqual(unsupportedSections(config), [
    'key_value_store.cache (type "redis")',
    'key_value_store.azure (type "azure_cosmos")',
    'key_value_store.aws (type "aws_dynamo")',
    'sqlite_database.remote (type "libsql")',
    'llm_compute (type "remote_http")',
    'variables_provider[0] (type "azure_key_vault")',
  ]);
});

test('what spin-operator writes is read', () => {
  const config = parse(
    '[[config_provider]]\ntype = "env"\nprefix = "SPIN_VARIABLE_"\n[sqlite_database.x]\ntype = "spin"\nallow_attach_file = "true"\n',
  );
  assert.deepEqual(config.variablesProviders, [{ type: 'env', prefix: 'SPIN_VARIABLE_' }]);
  assert.deepEqual(config.sqliteDatabases, [['x', { type: 'spin', allowAttachFile: true }]]);
  assert.deepEqual(unsupportedSections(config), []);
});

test('an empty state directory means none, and absence the default', () => {
  assert.equal(parse('state_dir = ""').stateDir, null);
  assert.equal('stateDir' in parse(''), false);
});

const broken: readonly (readonly [text: string, message: RegExp])[] = [
  ['stat_dir = "x"', /stat_dir is an unknown key; did you mean "state_dir"/],
  ['state_dir = 1', /state_dir must be a string/],
  ['[key_value_store]\nx = 1', /key_value_store.x must be a table/],
  ['[key_value_store.x]', /key_value_store.x.type is missing/],
  ['[key_value_store.x]\ntype = "etcd"', /type must be one of "spin", "redis"/],
  ['[key_value_store.x]\ntype = "spin"\npaht = "x"', /key_value_store.x.paht .* "path"/],
  ['[key_value_store.x]\ntype = "redis"', /key_value_store.x.url is missing/],
  ['[sqlite_database.x]\ntype = "libsql"\nurl = "file:x"\ntoken = ""', /must start with "http/],
  ['[sqlite_database.x]\ntype = "spin"\nallow_attach_file = "yes"', /must be true or false, not "yes"/],
  ['[llm_compute]\ntype = "remote_http"\nurl = "x"\nauth_token = "x"\napi_type = "y"', /api_type must be/],
  ['[[variables_provider]]\ntype = "x"', /variables_provider\[0\].type must be one of/],
  ['[variables_provider]\ntype = "env"', /variables_provider must be a list/],
  ['[[variables_provider]]\ntype = "env"\n[[config_provider]]\ntype = "env"', /use only one of them/],
  ['[outbound_networking]\nblock_networks = ["x"]', /block_networks is wrong: .*entry "x"/],
  ['[outbound_networking]\nblock_network = ["x"]', /"block_networks"/],
  ['[outbound_http]\nmax_connections = 1\nmax_concurrent_requests = 1', /use only one of them/],
  ['[outbound_http]\nmax_connections = -1', /must be between 0 and/],
  ['[outbound_http]\nmax_connections = "1e9"', /must be an integer/],
  ['[outbound_redis]\nmax_payload = 1', /max_payload is an unknown key/],
  ['[[client_tls]]\nclient_cert_file = "x"', /client_tls\[0\] must have both/],
  ['x = "hush', /^\/etc\/app\/runtime-config.toml: line 1, column/],
];

for (const [text, message] of broken) {
  test(`broken runtime config: ${message.source}`, () => {
    assert.throws(
      () => parse(text),
      (error) =>
        error instanceof ShimError &&
        error.code === 'invalid-argument' &&
        message.test(error.message) &&
        !error.message.includes('hush'),
    );
  });
}

test('no file, an empty file and a directory count as absent', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'runtime-config-'));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, 'runtime-config.toml');
  assert.equal(readRuntimeConfig(path), undefined);
  await writeFile(path, '\n ');
  assert.equal(readRuntimeConfig(path), undefined);
  assert.equal(readRuntimeConfig(join(path, 'below')), undefined);
  await writeFile(path, 'log_dir = "x"');
  assert.equal(readRuntimeConfig(path)?.logDir, 'x');
  await mkdir(join(directory, 'folder'));
  assert.equal(readRuntimeConfig(join(directory, 'folder')), undefined);
  await writeFile(path, '#'.repeat(maxRuntimeConfigBytes));
  assert.notEqual(readRuntimeConfig(path), undefined);
  await writeFile(path, '#'.repeat(maxRuntimeConfigBytes + 1));
  assert.throws(() => readRuntimeConfig(path), /more than the 1048576 allowed/);
  assert.throws(() => readRuntimeConfig('/dev/null'), /not a regular file/);
});
