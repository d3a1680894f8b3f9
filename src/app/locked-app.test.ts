import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import { maxLockedAppBytes, parseLockedApp } from './locked-app.ts';
import { parseBoundedJson } from './locked-app-json.ts';
import { serializeLockedApp } from './locked-app-serialize.ts';

const digest = `sha256:${'a'.repeat(64)}`;

const component = {
  id: 'hello',
  metadata: {
    description: 'says hello',
    databases: ['default'],
    allowed_http_hosts: ['a.com'],
    build: { command: 'make' },
  },
  source: { content_type: 'application/wasm', digest },
  env: { A: '1' },
  files: [{ path: 'static/a.txt', inline: 'aGk=', digest }],
  config: { greeting: '{{ greeting }}' },
  dependencies: { 'a:b': { source: { digest }, inherit: { Some: ['files'] } } },
};

const app = {
  spin_lock_version: 1,
  must_understand: ['host_requirements'],
  host_requirements: { local_service_chaining: 'required', later: 'optional' },
  metadata: { name: 'app', version: '1.0', triggers: { redis: { address: 'redis://x' } }, future: 1 },
  variables: { greeting: { default: 'hi' }, token: { secret: true } },
  triggers: [{ id: 't', trigger_type: 'redis', trigger_config: { component: 'hello', channel: 'c' } }],
  components: [component],
  future: {},
};

const parse = (value: unknown) => parseLockedApp(Buffer.from(JSON.stringify(value)));

test('a locked application is read with every field', () => {
  const locked = parse(app);
  assert.deepEqual(locked.hostRequirements, ['local_service_chaining']);
  assert.deepEqual(locked.variables, [
    { name: 'greeting', default: 'hi', secret: false },
    { name: 'token', secret: true },
  ]);
  assert.equal(locked.metadata.triggers[0]?.[0], 'redis');
  assert.equal(locked.triggers[0]?.config.channel, 'c');
  const [first] = locked.components;
  assert.ok(first);
  assert.deepEqual(first.files, [
    { path: 'static/a.txt', content: { inline: new Uint8Array([0x68, 0x69]), digest } },
  ]);
  assert.deepEqual(first.allowedOutboundHosts, ['http://a.com', 'https://a.com']);
  assert.deepEqual(first.sqliteDatabases, ['default']);
  assert.deepEqual(first.build, { command: ['make'] });
  assert.deepEqual(first.dependencies, [
    { name: 'a:b', source: { digest }, inherit: { kind: 'some', capabilities: ['files'] } },
  ]);
});

test('what is written is read back the same', () => {
  const locked = parse(app);
  const text = serializeLockedApp(locked);
  assert.deepEqual(parseLockedApp(Buffer.from(text)), locked);
  assert.equal(serializeLockedApp(parseLockedApp(Buffer.from(text))), text);
  assert.match(text, /^\{"spin_lock_version":1,"must_understand":\["host_requirements"\],"metadata":\{/);
  assert.match(text, /"trigger":\{"address":"redis:\/\/x","type":"redis"\}/);
});

test('without host requirements the version is 0, and maps are sorted', () => {
  const text = serializeLockedApp(
    parse({ ...app, host_requirements: {}, components: [{ ...component, env: { b: '1', a: '2', Z: '3' } }] }),
  );
  assert.match(text, /^\{"spin_lock_version":0,"metadata"/);
  assert.match(text, /"env":\{"Z":"3","a":"2","b":"1"\}/);
});

test('what is not resolved cannot be written', () => {
  const locked = parse(app);
  const [first] = locked.components;
  assert.ok(first);
  const write = (change: object): string =>
    serializeLockedApp({ ...locked, components: [{ ...first, ...change }] });
  const fileGrants = { include: [{ kind: 'pattern', pattern: '*' }], exclude: [] };
  assert.throws(() => write({ fileGrants }), /component "hello": file patterns are not resolved yet/);
  assert.throws(() => write({ source: { package: { name: 'a:b', version: '1.0.0' } } }), /not resolved yet/);
});

test('settings of the one trigger type of an old document are kept', () => {
  const locked = parse({ ...app, metadata: { name: 'x', trigger: { type: 'http', base: '/' } } });
  assert.deepEqual(
    locked.metadata.triggers.map(([type]) => type),
    ['http'],
  );
  assert.equal(locked.metadata.triggers[0]?.[1].base, '/');
  assert.equal(locked.metadata.triggers[0]?.[1].type, undefined);
});

test('keys such as __proto__ are data', () => {
  const text = JSON.stringify(app).replace('"channel":"c"', '"__proto__":{"polluted":true},"constructor":1');
  const locked = parseLockedApp(Buffer.from(text.replace('{"A":"1"}', '{"__proto__":"1"}')));
  assert.deepEqual(locked.components[0]?.environment, [['__proto__', '1']]);
  assert.equal(Object.getPrototypeOf(locked.triggers[0]?.config), null);
  assert.equal(locked.triggers[0]?.config.polluted, undefined);
  assert.match(serializeLockedApp(locked), /"__proto__":\{"polluted":true\}/);
  assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false);
});

const withComponent = (change: object): unknown => ({ ...app, components: [{ ...component, ...change }] });
const withFile = (file: object): unknown => withComponent({ files: [{ digest, ...file }] });

const broken: readonly (readonly [value: unknown, code: string, message: RegExp])[] = [
  [[], 'invalid-image', /the document must be a table, not a list/],
  [{ ...app, spin_lock_version: undefined }, 'invalid-image', /spin_lock_version is missing/],
  [{ ...app, spin_lock_version: 2 }, 'unsupported', /spin_lock_version 2 is newer/],
  [{ ...app, spin_lock_version: '0' }, 'invalid-image', /spin_lock_version must be an integer/],
  [{ ...app, must_understand: ['x'] }, 'unsupported', /must_understand lists "x"/],
  [{ ...app, host_requirements: { x: 'required' } }, 'unsupported', /host_requirements.x is required/],
  [{ ...app, host_requirements: { x: 'maybe' } }, 'invalid-image', /must be "required" or "optional"/],
  [
    withComponent({ host_requirements: { x: 'required' } }),
    'unsupported',
    /components\[0\].host_requirements.x/,
  ],
  [{ ...app, metadata: {} }, 'invalid-image', /metadata.name is missing/],
  [{ ...app, variables: { a: 1 } }, 'invalid-image', /variables.a must be a table/],
  [
    { ...app, components: [component, component] },
    'invalid-image',
    /components\[1\].id "hello" is also the id of components\[0\]/,
  ],
  [{ ...app, triggers: [app.triggers[0], app.triggers[0]] }, 'invalid-image', /triggers\[1\].id/],
  [{ ...app, triggers: [{ id: 't' }] }, 'invalid-image', /triggers\[0\].trigger_type is missing/],
  [withComponent({ id: '../x' }), 'invalid-image', /components\[0\].id must be/],
  [withComponent({ id: '..' }), 'invalid-image', /components\[0\].id must be/],
  [withComponent({ id: 'x'.repeat(257) }), 'invalid-image', /components\[0\].id must be 1 to 256/],
  [withComponent({ source: undefined }), 'invalid-image', /components\[0\].source is missing/],
  [withComponent({ source: {} }), 'invalid-image', /components\[0\].source must have at least one/],
  [
    withComponent({ source: { digest: 'sha256:ABC' } }),
    'invalid-image',
    /components\[0\].source.digest must be "sha256:"/,
  ],
  [withComponent({ source: { digest: `sha512:${'a'.repeat(64)}` } }), 'invalid-image', /source.digest/],
  [withComponent({ source: { digest: digest.toUpperCase() } }), 'invalid-image', /source.digest/],
  [withComponent({ source: { inline: 'a' } }), 'invalid-image', /source.inline is not valid base64/],
  [withComponent({ env: { A: 1 } }), 'invalid-image', /components\[0\].env.A must be a string/],
  [
    withComponent({ metadata: { ai_models: [1] } }),
    'invalid-image',
    /metadata.ai_models\[0\] must be a string/,
  ],
  [withFile({ path: '/etc/passwd' }), 'invalid-image', /components\[0\].files\[0\].path must be relative/],
  [withFile({ path: '../x' }), 'invalid-image', /files\[0\].path/],
  [withFile({ path: 'a/./b' }), 'invalid-image', /files\[0\].path/],
  [withFile({ path: 'a//b' }), 'invalid-image', /files\[0\].path/],
  [withFile({ path: 'a/' }), 'invalid-image', /files\[0\].path/],
  [withFile({ path: '' }), 'invalid-image', /files\[0\].path/],
  [withFile({ path: 'a\0b' }), 'invalid-image', /files\[0\].path/],
  [
    withComponent({
      files: [
        { path: 'a', digest },
        { path: 'a', digest },
      ],
    }),
    'invalid-image',
    /files\[1\].path "a" occurs twice/,
  ],
];

for (const [value, code, message] of broken) {
  test(`broken locked application: ${message.source}`, () => {
    assert.throws(
      () => parse(value),
      (error) => error instanceof ShimError && error.code === code && message.test(error.message),
    );
  });
}

const origin = { where: 'x', code: 'invalid-image' } as const;
const json = (text: string, maxBytes = 1000, maxDepth = 3): unknown =>
  parseBoundedJson(Buffer.from(text), origin, { maxBytes, maxDepth });

test('JSON is bounded in bytes and depth', () => {
  assert.deepEqual(json('[[[1]]]'), [[[1]]]);
  assert.throws(() => json('[[[[1]]]]'), /nested deeper than 3/);
  assert.deepEqual(json('["[[[[[["]'), ['[[[[[[']);
  assert.deepEqual(json('["a"]', 5), ['a']);
  assert.throws(() => json('["ab"]', 5), /has 6 bytes, more than the 5 allowed/);
  assert.throws(
    () => parseLockedApp(new Uint8Array(maxLockedAppBytes + 1)),
    /more than the 16777216 allowed/,
  );
  assert.throws(() => json('['.repeat(900)), /nested deeper/);
});

test('JSON with a key twice, bad UTF-8 or bad syntax is refused', () => {
  assert.throws(() => json('{"a":1,"a":2}'), /the key "a" occurs twice/);
  assert.throws(() => json('{"a":1,"\\u0061":2}'), /the key "a" occurs twice/);
  assert.deepEqual(json('{"a":"a","b":{"a":["a","a"]}}'), { a: 'a', b: { a: ['a', 'a'] } });
  for (const text of ['', '{', '{"a"}', '"\\', '{"a\\q":1}', '[1,]', '{}}', 'nul']) {
    assert.throws(() => json(text), /not valid JSON/, text);
  }
  assert.throws(
    () => parseBoundedJson(new Uint8Array([0x22, 0xff, 0x22]), origin, { maxBytes: 10 }),
    /not UTF-8/,
  );
});
