import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxDestinationUrlLength, parseDatabaseDestination, parseDestination } from './allowed-hosts-url.ts';

test('a URL gives scheme, canonical host and port', () => {
  assert.deepEqual(parseDestination('HTTP://Example.COM/x'), {
    scheme: 'http',
    host: 'example.com',
    port: 80,
  });
  assert.deepEqual(parseDestination('tcp://[::1]:9'), { scheme: 'tcp', host: '[::1]', port: 9 });
  assert.deepEqual(parseDestination('redis://0x7f.1'), { scheme: 'redis', host: '127.0.0.1', port: 6379 });
});

test('URLs are looked at up to their longest length', () => {
  const url = 'http://a/';
  const longest = url + 'x'.repeat(maxDestinationUrlLength - url.length);
  assert.notEqual(parseDestination(longest), undefined);
  assert.equal(parseDestination(`${longest}x`), undefined);
});

const database: readonly (readonly [address: string, host: string | undefined, port?: number])[] = [
  ['db.example', 'db.example', 5432],
  ['db.example:1234/x', 'db.example', 1234],
  ['postgres://u:p@db.example/x', 'db.example', 5432],
  ['postgres://u:p#?x@db.example/x', 'db.example', 5432],
  ['postgres://u:p@ss@db.example:1/x', 'db.example', 1],
  ['postgres://u:p@db.example/@other', 'db.example', 5432],
  ['postgres://allowed.com#@evil.com', 'evil.com', 5432],
  ['postgres://u:p@/x', undefined],
  // A list of hosts is one odd name, which no resolver knows.
  ['postgres://u:p@a,b/x', 'a,b', 5432],
  ['host=db.example user=x', undefined],
];

for (const [address, host, port] of database) {
  test(`database address ${address}`, () => {
    const destination = parseDatabaseDestination(address, 'postgres');
    assert.deepEqual(destination, host === undefined ? undefined : { scheme: 'postgres', host, port });
  });
}
