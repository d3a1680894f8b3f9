import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import { maxManifestBytes, parseManifest } from './manifest.ts';
import { nearestKey } from './manifest-key.ts';

const head = 'spin_manifest_version = 2\n[application]\nname = "app"\n';
const parse = (text: string) => parseManifest(text, 'spin.toml');
const v2 = (text: string) => parse(head + text);
const withComponent = (text: string) => v2(`[component.a]\nsource = "a.wasm"\n${text}`);
const withTrigger = (text: string) => v2(`[[trigger.http]]\n${text}\n[component.a]\nsource = "a.wasm"\n`);

test('a whole v2 manifest', () => {
  const app = parse(`
spin_manifest_version = 2

[application]
name = "js-host-apis"
version = "1.0.0"
authors = ["me"]
targets = ["spin:up@3.2", { path = "x" }]
[application.tool.x]
anything = 1

[variables]
greeting = { default = "hello" }
secret = { required = true, secret = true, description = "d" }

[[trigger.http]]
route = "/..."
component = "js-host-apis"

[component.js-host-apis]
source = "js-host-apis.wasm"
key_value_stores = ["default", "my_store"]
sqlite_databases = ["default"]
ai_models = ["llama2-chat"]
environment = { COLOUR = "blue" }
files = ["static/**/*", { source = "dist", destination = "/" }]
exclude_files = ["**/*.map"]
allowed_outbound_hosts = ["http://127.0.0.1:*", "https://{{ greeting }}.com"]
allowed_http_hosts = ["a.com"]
[component.js-host-apis.variables]
both = "{{ greeting }} and {{ secret }}"
[component.js-host-apis.build]
command = ["make", "make install"]
workdir = "x"
watch = ["src"]
[component.js-host-apis.tool.x]
free = true
[component.js-host-apis.profile.debug]
source = "debug.wasm"
build = { command = "x" }
`);
  assert.deepEqual(app.metadata, { name: 'js-host-apis', version: '1.0.0', authors: ['me'], triggers: [] });
  assert.deepEqual(app.variables, [
    { name: 'greeting', default: 'hello', secret: false },
    { name: 'secret', description: 'd', secret: true },
  ]);
  assert.equal(app.triggers[0]?.id, 'js-host-apis-http-trigger');
  assert.deepEqual({ ...app.triggers[0]?.config }, { route: '/...', component: 'js-host-apis' });
  assert.deepEqual(app.components, [
    {
      id: 'js-host-apis',
      source: { contentType: 'application/wasm', source: 'js-host-apis.wasm' },
      environment: [['COLOUR', 'blue']],
      files: [],
      fileGrants: {
        include: [
          { kind: 'pattern', pattern: 'static/**/*' },
          { kind: 'placement', source: 'dist', destination: '/' },
        ],
        exclude: ['**/*.map'],
      },
      variables: [['both', '{{ greeting }} and {{ secret }}']],
      allowedOutboundHosts: [
        'http://127.0.0.1:*',
        'https://{{ greeting }}.com',
        'http://a.com',
        'https://a.com',
      ],
      keyValueStores: ['default', 'my_store'],
      sqliteDatabases: ['default'],
      aiModels: ['llama2-chat'],
      build: { command: ['make', 'make install'], workdir: 'x' },
      dependencies: [],
    },
  ]);
});

test('a v1 manifest is converted', () => {
  for (const version of ['spin_version = "1"', 'spin_manifest_version = "1"']) {
    const app = parse(`${version}
name = "old"
trigger = { type = "http", base = "/" }
[[component]]
id = "My_Comp"
source = "a.wasm"
allowed_http_hosts = ["insecure:allow-all"]
config = { x = "1" }
[component.trigger]
route = "/hello"
executor = { type = "wagi" }
[[component]]
id = "b"
source = { url = "https://x/b.wasm", digest = "sha256:${'0'.repeat(64)}" }
allowed_outbound_hosts = []
trigger = { route = "/b" }
`);
    assert.deepEqual(
      app.components.map(({ id, allowedOutboundHosts, variables }) => ({
        id,
        allowedOutboundHosts,
        variables,
      })),
      [
        {
          id: 'my-comp',
          allowedOutboundHosts: [
            'redis://*:*',
            'mysql://*:*',
            'postgres://*:*',
            'http://*:*',
            'https://*:*',
            'http://self',
          ],
          variables: [['x', '1']],
        },
        { id: 'b', allowedOutboundHosts: [], variables: [] },
      ],
    );
    assert.deepEqual(
      app.triggers.map(({ id }) => id),
      ['trigger-my-comp', 'trigger-b'],
    );
    assert.equal(app.triggers[0]?.config.component, 'my-comp');
    assert.deepEqual(
      app.metadata.triggers.map(([type, settings]) => [type, { ...settings }]),
      [['http', { base: '/' }]],
    );
  }
});

test('ids of triggers and inline components', () => {
  const app = v2(`
[[trigger.http]]
route = "/a"
component = "a"
[[trigger.http]]
route = "/b"
component = "a"
[[trigger.http]]
route = "/c"
static_response = {}
[[trigger.http]]
id = "mine"
route = "/d"
component = { source = "d.wasm" }
[[trigger.http]]
route = "/e"
component = { source = "e.wasm" }
[[trigger.other]]
components = { one = "a", many = ["a", { source = "f.wasm" }] }
size = 3
[component.a]
source = "a.wasm"
[component.inline-component1]
source = "x.wasm"
`);
  assert.deepEqual(
    app.triggers.map(({ id }) => id),
    [
      'a-http-trigger',
      'http-trigger1',
      'http-trigger2',
      'mine',
      'inline-component2-http-trigger',
      'other-trigger1',
    ],
  );
  assert.deepEqual(
    app.components.map(({ id }) => id),
    ['a', 'inline-component1', 'mine-component', 'inline-component2', 'inline-component3'],
  );
  assert.equal(
    JSON.stringify(app.triggers.at(-1)?.config),
    '{"size":3,"components":{"one":"a","many":["a","inline-component3"]}}',
  );
});

test('dependencies are read', () => {
  const app = v2(`
[[trigger.http]]
route = "/"
component = "a"
[component.a]
source = "a.wasm"
[component.a.dependencies]
"x:y" = "^1.0"
"x:z/i@1.0.0" = { version = "1", registry = "r", package = "p:q", inherit_configuration = ["files"] }
plain = { component = "lib", export = "e", inherit_configuration = true }
local = { path = "l.wasm" }
[component.lib]
source = "lib.wasm"
`);
  const contentType = 'application/wasm';
  const none = { kind: 'some', capabilities: [] };
  assert.deepEqual(app.components[0]?.dependencies, [
    { name: 'x:y', source: { contentType, package: { name: 'x:y', version: '^1.0' } }, inherit: none },
    {
      name: 'x:z/i@1.0.0',
      source: { contentType, package: { name: 'p:q', version: '1', registry: 'r' } },
      inherit: { kind: 'some', capabilities: ['files'] },
    },
    { name: 'plain', source: { contentType, source: 'lib.wasm' }, export: 'e', inherit: { kind: 'all' } },
    { name: 'local', source: { contentType, source: 'l.wasm' }, inherit: none },
  ]);
});

test('service chaining is a host requirement', () => {
  const chained = (host: string) => withComponent(`allowed_outbound_hosts = ["${host}"]`).hostRequirements;
  assert.deepEqual(chained('http://b.spin.internal'), ['local_service_chaining']);
  assert.deepEqual(chained('http://*.spin.internal'), ['local_service_chaining']);
  assert.deepEqual(chained('http://example.com'), []);
});

test('keys such as __proto__ are data or errors, never prototypes', () => {
  assert.throws(() => v2('[component.__proto__]\nsource = "a"'), /component.__proto__ must be named/);
  const app = withComponent('environment = { __proto__ = "x", constructor = "y" }');
  assert.deepEqual(app.components[0]?.environment, [
    ['__proto__', 'x'],
    ['constructor', 'y'],
  ]);
  assert.throws(() => withComponent('constructor = 1'), /component.a.constructor is an unknown key/);
});

const broken: readonly (readonly [text: () => unknown, message: RegExp])[] = [
  [() => parse(''), /^spin.toml: spin_manifest_version is missing/],
  [() => parse('spin_manifest_version = 3'), /spin_manifest_version must be 2, not 3/],
  [() => parse('spin_manifest_version = 2.5'), /spin_manifest_version must be 2/],
  [() => parse('spin_manifest_version = "2"'), /must be 2, not "2" in quotes/],
  [() => parse('a = \n'), /^spin.toml: line 1, column/],
  [() => parse('spin_manifest_version = 2'), /application is missing/],
  [() => v2('[extra]'), /extra is an unknown key; known keys: spin_manifest_version/],
  [() => v2('[componnet.a]'), /componnet is an unknown key; did you mean "component"\?/],
  [
    () => parse('spin_manifest_version = 2\n[application]\nnme = "x"'),
    /application.nme is an unknown key; did you mean "name"/,
  ],
  [() => parse('spin_manifest_version = 2\n[application]\n'), /application.name is missing/],
  [
    () => withComponent('key-value-stores = []'),
    /component.a.key-value-stores .* did you mean "key_value_stores"/,
  ],
  [() => withComponent('build = { comand = "x" }'), /component.a.build.comand .* "command"/],
  [() => withComponent('profile.x.sorce = "x"'), /component.a.profile.x.sorce .* "source"/],
  [() => withComponent('files = [{ sorce = "x" }]'), /component.a.files\[0\].sorce .* "source"/],
  [() => withComponent('files = ["/etc/*"]'), /component.a.files lists "\/etc\/\*", which is absolute/],
  [() => withComponent('files = ["a/../../b"]'), /leaves the folder/],
  [() => withComponent('files = ["a/.."]'), /ends in "." or ".."/],
  [() => withComponent('files = ["."]'), /ends in "."/],
  [() => withComponent('exclude_files = ["../x"]'), /component.a.exclude_files lists/],
  [
    () => withComponent('files = [{ source = "a", destination = "/../b" }]'),
    /files\[0\].destination must be/,
  ],
  [() => withComponent('key_value_stores = ["../x"]'), /key_value_stores lists "..\/x"/],
  [() => withComponent('sqlite_databases = ["a-b_c"]'), /sqlite_databases lists/],
  [() => withComponent('ai_models = ["a_b"]'), /ai_models lists/],
  [
    () => withComponent('environment = { A = 1 }'),
    /component.a.environment.A must be a string, not an integer/,
  ],
  [() => withComponent('variables = { A = "x" }'), /component.a.variables has the name "A"/],
  [() => withComponent('variables = { a = "{{ x" }'), /component.a.variables has a bad value for "a"/],
  [() => withComponent('allowed_outbound_hosts = ["example.com"]'), /component.a is wrong: .*has no scheme/],
  [() => withComponent('dependencies = { plain = "1" }'), /dependencies.plain has a plain name/],
  [() => withComponent('dependencies = { plain = { } }'), /must have one of "version"/],
  [
    () => withComponent('dependencies = { "a:b" = { path = "x", export = "y" } }'),
    /only for dependencies with a plain name/,
  ],
  [
    () => withComponent('dependencies = { x = { component = "nope" } }'),
    /on component "nope", which does not exist/,
  ],
  [
    () => withComponent('dependencies = { x = { path = "p", inherit_configuration = ["fils"] } }'),
    /lists "fils"/,
  ],
  [
    () =>
      withComponent(
        'dependencies_inherit_configuration = true\ndependencies = { x = { path = "p", inherit_configuration = true } }',
      ),
    /cannot be combined/,
  ],
  [() => v2('[component.A_b]\nsource = "x"'), /component.A_b must be named by words/],
  [() => v2('[component.a-1b]\nsource = "x"'), /must be named by words/],
  [() => v2('[component.Ab]\nsource = "x"'), /must be named by words/],
  [() => v2('[component.a]'), /component.a.source is missing/],
  [() => v2('[component.a]\nsource = "https://x/y.wasm"'), /is a URL; write/],
  [
    () => v2('[component.a]\nsource = { url = "file:///x", digest = "y" }'),
    /source.url must be an http or https URL/,
  ],
  [() => v2('[component.a]\nsource = { url = "https://x", digest = "sha256:0" }'), /source.digest must be/],
  [() => v2('[component.a]\nsource = { package = "x", version = "1" }'), /must be "namespace:name"/],
  [() => v2('[component.a]\nsource = { reference = "x" }'), /is a bindle/],
  [() => v2('[trigger.http]\nroute = "/"'), /trigger.http must be a list/],
  [
    () => withTrigger('route = "/"\ncomponent = "b"'),
    /trigger.http\[0\].component refers to component "b".*did you mean "a"/,
  ],
  [() => withTrigger('component = "a"'), /trigger.http\[0\].route is missing/],
  [
    () => withTrigger('route = { private = false }\ncomponent = "a"'),
    /must be a path or \{ private = true \}/,
  ],
  [() => withTrigger('route = 1\ncomponent = "a"'), /trigger.http\[0\].route must be a table/],
  [() => withTrigger('route = "/"'), /must have one of "component" and "static_response"/],
  [() => withTrigger('route = "/"\ncomponent = "a"\nstatic_response = {}'), /only one of/],
  [() => withTrigger('route = "/"\ncomponent = "a"\nrout = 1'), /trigger.http\[0\].rout .* "route"/],
  [
    () => withTrigger('route = "/"\nstatic_response = { status_code = 99 }'),
    /status_code must be between 200 and 999/,
  ],
  [
    () => withTrigger('route = "/"\nstatic_response = { status_code = 200.5 }'),
    /status_code must be an integer/,
  ],
  [() => withTrigger('route = "/"\nstatic_response = { headers = { "a b" = "x" } }'), /not a header name/],
  [
    () => withTrigger('route = "/"\nstatic_response = { headers = { a = "x\\r\\ny: z" } }'),
    /no header can carry/,
  ],
  [
    () => withTrigger('route = "/"\ncomponent = "a"\nexecutor = { type = "x" }'),
    /executor.type must be "http" or "wagi"/,
  ],
  [
    () => withTrigger('route = "/"\ncomponent = "a"\nexecutor = { type = "http", argv = "x" }'),
    /executor.argv/,
  ],
  [() => withTrigger('route = "/"\ncomponent = "a"\ndependencies = { x = 1 }'), /dependencies.x/],
  [
    () =>
      v2(
        '[[trigger.http]]\nid = "x"\nroute = "/"\nstatic_response = {}\n[[trigger.http]]\nid = "x"\nroute = "/b"\nstatic_response = {}',
      ),
    /trigger.http\[1\].id "x" is also/,
  ],
  [() => v2('[[trigger.x]]\nwhen = 2020-01-01'), /trigger.x\[0\].when must not be a date/],
  [() => v2('[[trigger.x]]\nn = 9007199254740993'), /trigger.x\[0\].n must lie within/],
  [() => v2('[[trigger.x]]\nn = nan'), /trigger.x\[0\].n must be a finite number/],
  [() => v2(`[[trigger.x]]\n${'a.'.repeat(70)}b = 1`), /nested deeper than 64/],
  [() => v2('[variables]\na = {}'), /variables.a must have exactly one of/],
  [() => v2('[variables]\na = { required = true, default = "x" }'), /variables.a must have exactly one of/],
  [() => v2('[variables]\na = { required = false }'), /exactly one of/],
  [() => v2('[variables]\nA = { default = "" }'), /variables.A is named "A"/],
  [() => v2('[variables]\na = { defualt = "" }'), /variables.a.defualt .* "default"/],
  [() => v2('[variables]\na = "x"'), /variables.a must be a table, not a string/],
  [() => parse('spin_version = "1"\nname = "x"'), /trigger is missing/],
  [
    () =>
      parse(
        'spin_version = "1"\nname = "x"\ntrigger = { type = "http" }\n[[component]]\nid = "a"\nsource = "a"',
      ),
    /component\[0\].trigger is missing/,
  ],
  [
    () => parse('spin_version = "1"\nname = "x"\ntrigger = { type = "http" }\n[[component]]\nid = "1"\n'),
    /component\[0\].id becomes "1"/,
  ],
];

for (const [read, message] of broken) {
  test(`broken manifest: ${message.source}`, () => {
    assert.throws(
      read,
      (error) =>
        error instanceof ShimError && error.code === 'invalid-manifest' && message.test(error.message),
    );
  });
}

test('http trigger forms', () => {
  const config = (text: string) => withTrigger(text).triggers[0]?.config;
  assert.ok(config('route = { private = true }\ncomponent = "a"'));
  assert.ok(config('route = "/"\ncomponent = "a"\nexecutor = { type = "spin" }'));
  assert.ok(config('route = "/"\ncomponent = "a"\nexecutor = { type = "wasip3-unstable" }'));
  assert.ok(
    config('route = "/"\nstatic_response = { status_code = 404, headers = { a = "b" }, body = "no" }'),
  );
});

test('manifests are read up to their largest size', () => {
  const padded = (size: number): string => head.padEnd(size, '#');
  assert.equal(parse(padded(maxManifestBytes)).metadata.name, 'app');
  assert.throws(() => parse(padded(maxManifestBytes + 1)), /more than the 1048576 allowed/);
});

test('the nearest key is the one with the fewest edits', () => {
  assert.equal(nearestKey('Rout', ['route', 'component']), 'route');
  assert.equal(nearestKey('zzzzzz', ['route', 'component']), undefined);
  assert.equal(nearestKey('x'.repeat(100_000), ['x'.repeat(100)]), undefined);
});
