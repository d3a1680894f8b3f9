import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import { parseRuntimeConfig } from './runtime-config.ts';
import type { AppVariable, Component } from './types.ts';
import { resolveVariables } from './variables.ts';
import {
  envProvider,
  staticProvider,
  type VariableProvider,
  variableProviders,
  withVariableOverrides,
} from './variables-provider.ts';

const component = (
  variables: readonly (readonly [string, string])[],
  allowedOutboundHosts: readonly string[] = [],
): Component => ({
  id: 'web',
  source: { path: '/x', digest: 'sha256:0' },
  environment: [],
  files: [],
  variables,
  allowedOutboundHosts,
  keyValueStores: [],
  sqliteDatabases: [],
  aiModels: [],
});

const app = (variables: readonly AppVariable[], ...components: readonly Component[]) => ({
  variables,
  components,
});
const optional = (name: string, value: string): AppVariable => ({ name, default: value, secret: false });
const required = (name: string): AppVariable => ({ name, secret: true });
const nothing = new Map<string, string>();

test('values come from templates over providers, then defaults', async () => {
  const resolver = await resolveVariables(
    app(
      [optional('a', 'A'), optional('b', 'B')],
      component([
        ['both', '{{ a }}-{{b}}'],
        ['plain', 'x'],
      ]),
    ),
    [staticProvider(new Map([['b', 'from provider']]))],
  );
  assert.deepEqual(await resolver.get('web', 'both'), { kind: 'value', value: 'A-from provider' });
  assert.deepEqual(await resolver.getAll('web'), [
    ['both', 'A-from provider'],
    ['plain', 'x'],
  ]);
  assert.equal(await resolver.render('redis://{{ a }}'), 'redis://A');
  assert.deepEqual(await resolver.values(['a', 'a']), new Map([['a', 'A']]));
});

test('a component sees its own variables only', async () => {
  const resolver = await resolveVariables(app([optional('a', 'A')], component([['own', '{{ a }}']])), []);
  assert.deepEqual(await resolver.get('web', 'a'), { kind: 'undefined', text: 'no variable for "web"."a"' });
  assert.deepEqual(await resolver.get('other', 'own'), {
    kind: 'undefined',
    text: 'no variable for "other"."own"',
  });
  assert.deepEqual(await resolver.getAll('other'), []);
  for (const name of ['', 'A', '__proto__', 'a-b', 'a_']) {
    assert.equal((await resolver.get('web', name)).kind, 'invalid-name', name);
  }
  assert.equal((await resolver.get('web', 'constructor')).kind, 'undefined');
});

test('the first provider that has a value wins and is asked each time', async () => {
  let count = 0;
  const counting: VariableProvider = {
    kind: 'test',
    get: (name) => (name === 'a' ? `${++count}` : undefined),
  };
  const resolver = await resolveVariables(app([required('a')], component([['v', '{{ a }}{{ a }}']])), [
    counting,
    staticProvider(new Map([['a', 'never']])),
  ]);
  assert.deepEqual(await resolver.get('web', 'v'), { kind: 'value', value: '22' });
  assert.deepEqual(await resolver.get('web', 'v'), { kind: 'value', value: '33' });
});

test('a failing provider is an answer of its own', async () => {
  let failing = false;
  const provider: VariableProvider = {
    kind: 'test',
    get: async () => {
      if (failing) throw new ShimError('unavailable', 'the vault is sealed');
      return 'x';
    },
  };
  const resolver = await resolveVariables(app([required('a')], component([['v', '{{ a }}']])), [provider]);
  failing = true;
  assert.deepEqual(await resolver.get('web', 'v'), { kind: 'provider', text: 'the vault is sealed' });
  assert.deepEqual(await resolver.getAll('web'), []);
});

test('required variables without a value stop the start and are all named', async () => {
  const start = resolveVariables(app([required('one'), optional('two', ''), required('three_x')]), []);
  await assert.rejects(
    start,
    (error) =>
      error instanceof ShimError &&
      error.code === 'failed-precondition' &&
      error.message.startsWith(
        'no provider resolved required variable(s): one, three_x; set SPIN_VARIABLE_ONE',
      ),
  );
});

test('unknown variables in templates stop the start', async () => {
  const start = (...components: readonly Component[]) =>
    resolveVariables(app([optional('host', '')], ...components), []);
  await assert.rejects(
    start(component([['v', '{{ hots }}']])),
    /component "web": variable "v" refers to unknown variable "hots"; did you mean "host"/,
  );
  await assert.rejects(
    start(component([], ['http://{{ other_one }}'])),
    /entry "http:\/\/\{\{ other_one \}\}" refers to unknown variable/,
  );
  const resolver = await start();
  await assert.rejects(resolver.render('{{ x }}'), /unknown variable "x"/);
});

test('environment variables by prefix, then the dotenv file', () => {
  const environment = new Map([
    ['SPIN_VARIABLE_A_B', '1'],
    ['P_A_B', '2'],
    ['SPIN_VARIABLE__A_B', '3'],
  ]);
  assert.equal(envProvider(environment, nothing).get('a_b'), '1');
  assert.equal(envProvider(environment, nothing, 'P').get('a_b'), '2');
  assert.equal(envProvider(environment, nothing, 'SPIN_VARIABLE_').get('a_b'), '3');
  assert.equal(envProvider(nothing, environment).get('a_b'), '1');
  assert.equal(envProvider(new Map([['SPIN_VARIABLE_A_B', '']]), environment).get('a_b'), '');
  assert.equal(envProvider(nothing, nothing).get('a_b'), undefined);
});

test('the upper-case name itself wins over the prefixed one', () => {
  const environment = new Map([
    ['SPIN_VARIABLE_TOKEN', 'prefixed'],
    ['TOKEN', 'bare'],
    ['OTHER', 'x'],
  ]);
  const result = withVariableOverrides(['token', 'missing'], environment);
  assert.equal(result.get('SPIN_VARIABLE_TOKEN'), 'bare');
  assert.equal(result.has('SPIN_VARIABLE_OTHER'), false);
  assert.equal(environment.get('SPIN_VARIABLE_TOKEN'), 'prefixed');
});

test('providers are asked in order: overrides, runtime config, environment', async () => {
  const config = parseRuntimeConfig(
    `[[variables_provider]]\ntype = "env"\nprefix = "P"\ndotenv_path = "p.env"\n[[variables_provider]]\ntype = "static"\nvalues = { a = "static", b = "static", c = "static", d = "static" }`,
    '/runtime-config.toml',
  );
  const read: string[] = [];
  const providers = await variableProviders(['a', 'b', 'c', 'd', 'e'], config, {
    overrides: new Map([['a', 'override']]),
    environment: new Map([
      ['P_A', 'prefixed'],
      ['P_B', 'prefixed'],
      ['SPIN_VARIABLE_D', 'built-in'],
      ['SPIN_VARIABLE_E', 'built-in'],
    ]),
    readDotenv: (path) => {
      read.push(path);
      return path === 'p.env' ? new Map([['P_C', 'dotenv']]) : nothing;
    },
  });
  const names = ['a', 'b', 'c', 'd', 'e'];
  const resolver = await resolveVariables(app(names.map(required)), providers);
  assert.deepEqual(
    [...(await resolver.values(names)).values()],
    ['override', 'prefixed', 'dotenv', 'static', 'built-in'],
  );
  assert.deepEqual(read, ['p.env', '.env']);
});

test('vaults are unsupported by name', async () => {
  const config = parseRuntimeConfig(
    '[[config_provider]]\ntype = "vault"\nurl = "http://v"\ntoken = "hush"\nmount = "m"',
    '/rc.toml',
  );
  await assert.rejects(
    variableProviders([], config, { environment: nothing, readDotenv: () => nothing }),
    (error) =>
      error instanceof ShimError &&
      error.code === 'unsupported' &&
      /provider "vault" of \/rc.toml/.test(error.message) &&
      !error.message.includes('hush'),
  );
});
