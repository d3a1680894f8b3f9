import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BlockedNetworks, isPrivateAddress } from './allowed-hosts-blocked.ts';
import { networkContains, parseIp, parseIpNetwork } from './allowed-hosts-ip.ts';

const privateAddresses = [
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '100.64.0.0',
  '100.127.255.255',
  '127.0.0.1',
  '127.255.255.255',
  '169.254.169.254',
  '172.16.0.0',
  '172.31.255.255',
  '192.0.0.1',
  '192.0.2.1',
  '192.168.0.1',
  '198.18.0.1',
  '198.51.100.1',
  '203.0.113.1',
  '224.0.0.1',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::127.0.0.1',
  '::ffff:127.0.0.1',
  '::ffff:a9fe:a9fe',
  '64:ff9b::10.0.0.1',
  '64:ff9b:1::1',
  '100::1',
  '2001::1',
  '2001:db8::1',
  '2002:a00:1::1',
  '3fff::1',
  'fc00::1',
  'fd00:ec2::254',
  'fe80::1',
  'fe80::1%eth0',
  'fec0::1',
  'ff02::1',
  '[::1]',
  'localhost',
  '',
  '0x7f.1',
  '127.1',
];

const publicAddresses = [
  '1.1.1.1',
  '8.8.8.8',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '172.15.255.255',
  '172.32.0.0',
  '192.167.255.255',
  '223.255.255.255',
  '::ffff:8.8.8.8',
  '::8.8.8.8',
  '64:ff9b::8.8.8.8',
  '2002:808:808::1',
  '2606:4700::1111',
  '2a00::1',
];

test('private addresses are those that are not global unicast', () => {
  for (const ip of privateAddresses) assert.equal(isPrivateAddress(ip), true, ip);
  for (const ip of publicAddresses) assert.equal(isPrivateAddress(ip), false, ip);
});

test('blocked networks also hold for IPv4 inside IPv6', () => {
  const blocked = BlockedNetworks.parse(['10.0.0.0/8', '2001:db8::/32', '1.2.3.4']);
  for (const ip of [
    '10.0.0.0',
    '10.255.255.255',
    '::ffff:10.1.2.3',
    '::10.1.2.3',
    '64:ff9b::a01:203',
    '2002:a01:203::1',
    '2001:db8:1::',
    '1.2.3.4',
    'no address',
  ]) {
    assert.equal(blocked.blocks(ip), true, ip);
  }
  for (const ip of ['9.255.255.255', '11.0.0.0', '1.2.3.5', '2001:db9::', '127.0.0.1']) {
    assert.equal(blocked.blocks(ip), false, ip);
  }
});

test('a mapped CIDR is an IPv4 CIDR', () => {
  assert.deepEqual(parseIpNetwork('::ffff:10.0.0.0/104'), { family: 4, base: 10n << 24n, prefix: 8 });
  assert.equal(parseIpNetwork('::ffff:10.0.0.0/95'), undefined);
});

test('no entries block nothing and "private" blocks what is private', () => {
  assert.equal(BlockedNetworks.parse([]).blocks('127.0.0.1'), false);
  assert.equal(BlockedNetworks.parse([]).isEmpty, true);
  const blocked = BlockedNetworks.parse(['private']);
  assert.equal(blocked.blocks('192.168.1.1'), true);
  assert.equal(blocked.blocks('8.8.8.8'), false);
});

test('what is neither an address nor a CIDR is refused', () => {
  for (const entry of [
    '',
    'Private',
    'localhost',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '::/129',
    '10.0/8',
    '1.2.3.4/8/8',
  ]) {
    assert.throws(() => BlockedNetworks.parse([entry]), /neither "private" nor an address/, entry);
  }
});

test('every prefix length contains its first and last address only', () => {
  for (let prefix = 1; prefix <= 32; prefix++) {
    const network = parseIpNetwork(`128.0.0.0/${prefix}`);
    assert.ok(network);
    const last = network.base + (1n << BigInt(32 - prefix)) - 1n;
    assert.equal(networkContains(network, { family: 4, bits: last }), true);
    assert.equal(networkContains(network, { family: 4, bits: network.base - 1n }), false);
    assert.equal(networkContains(network, { family: 4, bits: last + 1n }), false);
    assert.equal(networkContains(network, { family: 6, bits: network.base }), false);
  }
});

test('addresses parse to their bits', () => {
  assert.deepEqual(parseIp('1.2.3.4'), { family: 4, bits: 0x01020304n });
  assert.deepEqual(parseIp('1::2:3'), { family: 6, bits: (1n << 112n) | (2n << 16n) | 3n });
  assert.deepEqual(parseIp('1:2:3:4:5:6:1.2.3.4')?.bits, 0x00010002000300040005000601020304n);
  for (const text of ['01.2.3.4', '1.2.3', '1.2.3.4.5', ':::', '1::2::3', 'g::', ' 1.2.3.4']) {
    assert.equal(parseIp(text), undefined, text);
  }
});
