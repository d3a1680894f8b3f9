import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, parseListenAddress } from './listen-address.ts';

const good: readonly (readonly [text: string, host: string, port: number])[] = [
  ['0.0.0.0:80', '0.0.0.0', 80],
  ['127.0.0.1:0', '127.0.0.1', 0],
  ['127.0.0.1:65535', '127.0.0.1', 65535],
  [':8080', '0.0.0.0', 8080],
  ['localhost:8080', '127.0.0.1', 8080],
  ['[::]:80', '::', 80],
  ['[::1]:3000', '::1', 3000],
];

test('takes literals, localhost and nothing for the host', () => {
  for (const [text, host, port] of good) assert.deepEqual(parseListenAddress(text, 'it'), { host, port });
});

const bad = [
  '',
  ':',
  '80',
  '0.0.0.0',
  '0.0.0.0:',
  '0.0.0.0:65536',
  '0.0.0.0:-1',
  '0.0.0.0:8o',
  '1.2.3:80',
  'example.com:80',
  '::1:80',
  '[::1:80',
  '::1]:80',
  '[127.0.0.1]:80',
  '[fe80::1%lo]:80',
  ' 127.0.0.1:80',
  '127.0.0.1:80 ',
  '127.0.0.1\0:80',
  '[::1\0]:80',
];

test('everything else is refused with where it came from', () => {
  for (const text of bad) {
    assert.throws(
      () => parseListenAddress(text, 'SPIN_HTTP_LISTEN_ADDR'),
      {
        code: 'invalid-argument',
        message: new RegExp(`SPIN_HTTP_LISTEN_ADDR is ${RegExp.escape(`"${text}"`)}`),
      },
      text,
    );
  }
});

test('IPv6 addresses are written in brackets', () => {
  assert.equal(formatAddress({ host: '::1', port: 1 }), '[::1]:1');
  assert.equal(formatAddress({ host: '1.2.3.4', port: 1 }), '1.2.3.4:1');
});
