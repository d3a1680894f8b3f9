import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRuntimeConfig } from '../app/runtime-config.ts';
import type { App } from '../app/types.ts';
import { settingsOf, withEnvironment } from './run-app.ts';
import { storeSummary } from './store-summary.ts';

function appWith(keyValueStores: readonly string[], variables: readonly string[] = []): App {
  return {
    name: 'test',
    variables: variables.map((name) => ({ name, secret: false })),
    triggers: [],
    components: [
      {
        id: 'a',
        source: { path: '/a.wasm', digest: 'sha256:00' },
        environment: [['COLOUR', 'blue']],
        files: [],
        variables: [],
        allowedOutboundHosts: [],
        keyValueStores,
        sqliteDatabases: [],
        aiModels: [],
      },
    ],
  };
}

const state = { path: '/app/.spin', temporary: false };

test('the default store is told when a component uses it and nothing else defines it', () => {
  const line = 'Storing default key-value data to "/app/.spin/sqlite_key_value.db".';
  assert.deepEqual(storeSummary(appWith(['default']), undefined, state), [line]);
  assert.deepEqual(storeSummary(appWith(['other']), undefined, state), []);
  assert.deepEqual(storeSummary(appWith(['default']), undefined, { path: '/tmp/x', temporary: true }), [
    'Storing default key-value data until the app ends; keep it with --state-dir.',
  ]);
});

test('what the runtime configuration defines is told by type, without its values', () => {
  const config = parseRuntimeConfig(
    '[key_value_store.default]\ntype = "redis"\nurl = "redis://u:secret@h"\n[[variables_provider]]\ntype = "static"\nvalues = { a = "secret" }\n',
    '/etc/rc.toml',
  );
  assert.deepEqual(storeSummary(appWith(['default']), config, state), [
    'Using runtime config [key_value_store.default: redis], [variables_provider: static] from "/etc/rc.toml"',
  ]);
});

test('--env is added to every component and wins over the manifest', () => {
  const prepared = { app: appWith([]), components: [] };
  const [component] = withEnvironment(prepared, [
    ['COLOUR', 'red'],
    ['SIZE', 'L'],
    ['SIZE', 'M'],
  ]).app.components;
  assert.deepEqual(component?.environment, [
    ['COLOUR', 'red'],
    ['SIZE', 'M'],
  ]);
});

test('the environment reaches providers, but a variable that happens to have the name of an application variable does not', () => {
  const env = new Map([
    ['HOME', '/root'],
    ['SPIN_VARIABLE_HOME', 'set'],
    ['SPIN_HTTP_LISTEN_ADDR', '0.0.0.0:80'],
  ]);
  assert.deepEqual(settingsOf(env, { app: appWith([], ['home']), components: [] }), [
    ['SPIN_VARIABLE_HOME', 'set'],
  ]);
});
