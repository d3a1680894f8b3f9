import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostMemberOf, importKeyOf, isAsyncImport, lowerCamel, upperCamel } from './host-names.ts';

test('import names lose the versions that the glue of jco loses', () => {
  assert.equal(importKeyOf('wasi:io/poll@0.2.6'), 'wasi:io/poll');
  assert.equal(importKeyOf('wasi:http/types@0.2.0-rc-2023-11-10'), 'wasi:http/types@0.2.0-rc-2023-11-10');
  assert.equal(importKeyOf('wasi:http/types@0.3.0'), 'wasi:http/types@0.3.0');
  assert.equal(importKeyOf('wasi:http/types@0.3.2'), 'wasi:http/types@0.3.0');
  assert.equal(
    importKeyOf('wasi:clocks/monotonic-clock@0.3.0-rc-2026-03-15'),
    'wasi:clocks/monotonic-clock@0.3.0-rc-2026-03-15',
  );
  assert.equal(importKeyOf('fermyon:spin/variables@2.0.0'), 'fermyon:spin/variables@2.0.0');
  assert.equal(importKeyOf('spin:sqlite/sqlite@3.1.0'), 'spin:sqlite/sqlite@3.1.0');
  assert.equal(importKeyOf('spin:sqlite/sqlite@9.9.9'), 'spin:sqlite/sqlite');
  assert.equal(importKeyOf('fermyon:spin/inbound-redis'), 'fermyon:spin/inbound-redis');
});

test('labels become JavaScript names', () => {
  assert.equal(lowerCamel('blocking-write-and-flush'), 'blockingWriteAndFlush');
  assert.equal(lowerCamel('HTTP-request'), 'httpRequest');
  assert.equal(upperCamel('output-stream'), 'OutputStream');
});

test('function names say what they are on the host', () => {
  assert.deepEqual(hostMemberOf('get-keys'), { kind: 'function', name: 'getKeys' });
  assert.deepEqual(hostMemberOf('[method]store.get-keys'), {
    kind: 'method',
    resource: 'Store',
    name: 'getKeys',
  });
  assert.deepEqual(hostMemberOf('[static]fields.from-list'), {
    kind: 'static',
    resource: 'Fields',
    name: 'fromList',
  });
  assert.deepEqual(hostMemberOf('[constructor]fields'), { kind: 'constructor', resource: 'Fields' });
  for (const name of ['__proto__', '[async]f', '[method]x', '[constructor]a.b', '', 'a b', '[method]a.b.c'])
    assert.equal(hostMemberOf(name), undefined, name);
});

test('asynchronous imports are named with or without the version', () => {
  const names = new Set(['wasi:io/poll#poll', 'fermyon:spin/key-value@2.0.0#get']);
  assert.ok(isAsyncImport(names, 'wasi:io/poll@0.2.3', 'poll'));
  assert.ok(isAsyncImport(names, 'fermyon:spin/key-value@2.0.0', 'get'));
  assert.ok(!isAsyncImport(names, 'wasi:io/poll@0.3.0', 'poll'));
});
