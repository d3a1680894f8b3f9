import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseDestination } from '../app/allowed-hosts-url.ts';
import type { App, Component, HttpTrigger } from '../app/types.ts';
import { resolveSettings } from './app-settings.ts';
import type { EngineClaim } from './messages.ts';
import { claimOf, temporaryFolder } from './test-engine.ts';

const trigger: HttpTrigger = {
  type: 'http',
  id: 'web',
  route: { kind: 'path', path: '/...' },
  target: { kind: 'component', component: 'c' },
  executor: { type: 'http' },
};

function appOf(changes: Partial<App> = {}, component: Partial<Component> = {}): App {
  return {
    name: 'sample',
    variables: [],
    triggers: [trigger],
    components: [
      {
        id: 'c',
        source: { path: '/none', digest: `sha256:${'0'.repeat(64)}` },
        environment: [],
        files: [],
        variables: [],
        allowedOutboundHosts: [],
        keyValueStores: [],
        sqliteDatabases: [],
        aiModels: [],
        ...component,
      },
    ],
    ...changes,
  };
}

async function claim(
  t: TestContext,
  app: App,
  changes: Partial<EngineClaim> = {},
  config?: string,
): Promise<EngineClaim> {
  const folder = await temporaryFolder(t);
  const runtimeConfig = join(folder, 'runtime-config.toml');
  if (config !== undefined) await writeFile(runtimeConfig, config);
  return claimOf({ app, components: [] }, folder, {
    ...(config === undefined ? {} : { runtimeConfig }),
    ...changes,
  });
}

test('a variable without a value stops the start and is named', async (t) => {
  const app = appOf({ variables: [{ name: 'token', secret: true }] });
  await assert.rejects(resolveSettings(await claim(t, app)), /token/);
  const environment = [['SPIN_VARIABLE_TOKEN', 'x']] as const;
  await resolveSettings(await claim(t, app, { environment }));
});

test('the error about a variable never holds a value', async (t) => {
  const app = appOf({
    variables: [
      { name: 'one', secret: true, default: 'hush' },
      { name: 'two', secret: false },
    ],
  });
  await assert.rejects(
    resolveSettings(await claim(t, app)),
    (error: Error) => !error.message.includes('hush'),
  );
});

test('triggers of other types, the wagi executor and an app without triggers are refused with their reason', async (t) => {
  const redis = { type: 'other', triggerType: 'redis', id: 'r', component: 'c', config: {} } as const;
  await assert.rejects(resolveSettings(await claim(t, appOf({ triggers: [redis] }))), {
    code: 'unsupported',
    message: /"r" is of type "redis"/,
  });
  const wagi: HttpTrigger = { ...trigger, executor: { type: 'wagi' } };
  await assert.rejects(resolveSettings(await claim(t, appOf({ triggers: [wagi] }))), {
    code: 'unsupported',
    message: /wagi/,
  });
  await assert.rejects(resolveSettings(await claim(t, appOf({ triggers: [] }))), {
    code: 'invalid-manifest',
    message: /no trigger/,
  });
});

test('a store that is defined nowhere is named; default needs no definition', async (t) => {
  await resolveSettings(await claim(t, appOf({}, { keyValueStores: ['default'] })));
  await assert.rejects(resolveSettings(await claim(t, appOf({}, { keyValueStores: ['default', 'other'] }))), {
    code: 'invalid-manifest',
    message: /component "c" uses the key-value store "other".*key_value_store\.other/,
  });
});

test('a store of the runtime configuration lies below the state directory, wherever its path points', async (t) => {
  const app = appOf({}, { keyValueStores: ['other'] });
  for (const path of ['/etc/passwd', '../../../etc/x', 'data/x.db']) {
    const config = `[key_value_store.other]\ntype = "spin"\npath = "${path}"\n`;
    const given = await claim(t, app, {}, config);
    const store = (await resolveSettings(given)).keyValueStores.get('other');
    assert.equal(store?.type, 'spin');
    const found = store?.type === 'spin' ? (store.path ?? '') : '';
    assert.ok(found.startsWith(`${given.stateDir}/`) && !found.includes('..'), found);
  }
});

test('sections that this version does not serve are refused by name', async (t) => {
  for (const [config, name] of [
    ['[key_value_store.other]\ntype = "redis"\nurl = "redis://h"\n', /key_value_store\.other/],
    ['[llm_compute]\ntype = "spin"\n', /llm_compute/],
    ['[[client_tls]]\ncomponent_ids = ["c"]\nhosts = ["h"]\nca_use_webpki_roots = true\n', /client_tls/],
    ['[outbound_http]\nmax_concurrent_requests = 5\n', /outbound_http/],
  ] as const) {
    await assert.rejects(resolveSettings(await claim(t, appOf(), {}, config)), name);
  }
});

test('broken and absent configuration', async (t) => {
  await assert.rejects(resolveSettings(await claim(t, appOf(), {}, 'x = ')), /runtime-config\.toml/);
  await resolveSettings(await claim(t, appOf(), { runtimeConfig: '/nowhere/runtime-config.toml' }));
});

test('allowed hosts are rendered with the variables of the app, and checked at the start', async (t) => {
  const variables = [{ name: 'host', secret: false, default: 'inside.example' }];
  const app = appOf({ variables }, { allowedOutboundHosts: ['https://{{ host }}'] });
  const settings = await resolveSettings(await claim(t, app));
  const [component] = app.components;
  assert.ok(component);
  const allowed = await settings.allowedHosts(component);
  const allows = (url: string): boolean => {
    const destination = parseDestination(url);
    return destination !== undefined && allowed.allows(destination);
  };
  assert.deepEqual([allows('https://inside.example/'), allows('https://outside.example/')], [true, false]);
  const wrong = appOf({}, { allowedOutboundHosts: ['no scheme'] });
  await assert.rejects(resolveSettings(await claim(t, wrong)), /no scheme/);
});

test('connections of outbound HTTP are kept unless the configuration says otherwise', async (t) => {
  assert.equal((await resolveSettings(await claim(t, appOf()))).poolOutboundHttp, true);
  const config = '[outbound_http]\nconnection_pooling = false\n';
  assert.equal((await resolveSettings(await claim(t, appOf(), {}, config))).poolOutboundHttp, false);
});
