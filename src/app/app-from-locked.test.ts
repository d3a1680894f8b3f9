import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import { appFromLocked, parseComponentsToRetain, selectComponents } from './app-from-locked.ts';
import type { LockedApp } from './locked-app.ts';
import { parseManifest } from './manifest.ts';

const resolved = {
  source: (id: string) => ({ path: `/wasm/${id}`, digest: `sha256:${id}` }),
  mounts: () => [],
};

const manifest = (text: string): LockedApp =>
  parseManifest(`spin_manifest_version = 2\n[application]\nname = "app"\n${text}`, 'spin.toml');

const three = (hosts: string): LockedApp =>
  manifest(`
[[trigger.http]]
route = "/a"
component = "a"
[[trigger.http]]
route = "/b"
component = "b"
[[trigger.http]]
route = "/static"
static_response = { body = "x" }
[component.a]
source = "a.wasm"
allowed_outbound_hosts = [${hosts}]
[component.b]
source = "b.wasm"
[component.unused]
source = "unused.wasm"
`);

const ids = (items: readonly { readonly id: string }[]): readonly string[] => items.map(({ id }) => id);

test('components that no trigger refers to are dropped', () => {
  const app = appFromLocked(three(''), resolved, { ociImageDigest: 'sha256:x' });
  assert.deepEqual(ids(app.components), ['a', 'b']);
  assert.equal(app.triggers.length, 3);
  assert.equal(app.ociImageDigest, 'sha256:x');
  assert.deepEqual(app.components[0]?.source, { path: '/wasm/a', digest: 'sha256:a' });
});

test('retaining keeps listed components and their triggers only', () => {
  const app = appFromLocked(three('"http://a.spin.internal"'), resolved, { retain: ['a', 'unused'] });
  assert.deepEqual(ids(app.components), ['a']);
  assert.deepEqual(ids(app.triggers), ['a-http-trigger']);
});

test('an unknown component to retain is an error that names the nearest', () => {
  assert.throws(
    () => selectComponents(three(''), ['c-not-here']),
    /has none of that name; it has a, b, unused/,
  );
  assert.throws(() => selectComponents(three(''), ['unusd']), /did you mean "unused"\?/);
});

test('a retained component may not chain to one that is gone', () => {
  const select = (hosts: string) => selectComponents(three(hosts), ['a']);
  assert.throws(() => select('"http://b.spin.internal"'), /component "b" is not retained/);
  assert.throws(() => select('"http://*.spin.internal"'), /a wildcard cannot be used/);
  assert.equal(select('"http://b.example"').components.length, 1);
  assert.equal(selectComponents(three('"http://*.spin.internal"')).components.length, 2);
});

test('the list of components to retain ignores empty items', () => {
  assert.deepEqual(parseComponentsToRetain('a,,b,'), ['a', 'b']);
  for (const value of [undefined, '', ',']) assert.equal(parseComponentsToRetain(value), undefined);
});

test('a trigger of an unknown component is an error', () => {
  const locked = three('');
  const broken = { ...locked, components: locked.components.filter(({ id }) => id !== 'b') };
  assert.throws(() => appFromLocked(broken, resolved), /trigger "b-http-trigger" refers to component "b"/);
});

test('settings of a trigger type lie under the tables of its triggers', () => {
  const app = appFromLocked(
    manifest(`
[application.trigger.redis]
address = "redis://shared"
[[trigger.redis]]
channel = "one"
component = "a"
[[trigger.redis]]
channel = "two"
address = "redis://own"
component = "a"
[component.a]
source = "a.wasm"
`),
    resolved,
  );
  const configs = app.triggers.map((trigger) =>
    trigger.type === 'other' ? { ...trigger.config } : undefined,
  );
  assert.deepEqual(configs, [
    { address: 'redis://shared', channel: 'one', component: 'a' },
    { address: 'redis://own', channel: 'two', component: 'a' },
  ]);
});

test('dependencies that are not composed are unsupported', () => {
  const unsupported = (text: string): void =>
    assert.throws(
      () => appFromLocked(manifest(text), resolved),
      (error) =>
        error instanceof ShimError && error.code === 'unsupported' && /not composed/.test(error.message),
    );
  unsupported(
    '[[trigger.http]]\nroute = "/"\ncomponent = "a"\n[component.a]\nsource = "a"\ndependencies = { "a:b" = "1" }',
  );
  unsupported(
    '[[trigger.http]]\nroute = "/"\ncomponent = "a"\ndependencies = { middleware = ["b"] }\n[component.a]\nsource = "a"',
  );
});

test('a base of the http trigger other than / is refused', () => {
  const text = (base: string): string =>
    `[application.trigger.http]\nbase = "${base}"\n[[trigger.http]]\nroute = "/"\ncomponent = "a"\n[component.a]\nsource = "a"`;
  assert.equal(appFromLocked(manifest(text('/')), resolved).triggers.length, 1);
  assert.throws(() => appFromLocked(manifest(text('/api')), resolved), /base must be "\/", not "\/api"/);
});
