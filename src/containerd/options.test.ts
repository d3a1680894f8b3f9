import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxOptionsBytes, parseRuntimeOptions } from './options.ts';

/** One length-delimited field of a protobuf message. */
function field(number: number, content: string | Buffer): Buffer {
  const bytes = Buffer.from(content);
  assert.ok(bytes.length < 16_384);
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
}

const options = Buffer.concat([field(2, '/etc/c.toml'), field(3, 'SystemdCgroup = true\nA = 1\n')]);
const any = Buffer.concat([field(1, 'runtimeoptions.v1.Options'), field(2, options)]);
const expected = {
  configPath: '/etc/c.toml',
  configBody: 'SystemdCgroup = true\nA = 1\n',
  systemdCgroup: true,
};

test('nothing on standard input is no options', () => {
  assert.deepEqual(parseRuntimeOptions(Buffer.alloc(0), 'id', 'ns'), {});
});

test('an Any is read, with and without a prefix to its type', () => {
  assert.deepEqual(parseRuntimeOptions(any, 'id', 'ns'), expected);
  const prefixed = Buffer.concat([
    field(1, 'type.googleapis.com/runtimeoptions.v1.Options'),
    field(2, options),
  ]);
  assert.deepEqual(parseRuntimeOptions(prefixed, 'id', 'ns'), expected);
});

test('bootstrap parameters are told by id and namespace', () => {
  const other = field(1, Buffer.concat([field(1, 'other.Type'), field(2, 'x')]));
  const bootstrap = Buffer.concat([
    field(1, 'id'),
    field(2, 'ns'),
    field(4, '2.3.0'),
    field(8, other),
    field(8, field(1, any)),
  ]);
  assert.deepEqual(parseRuntimeOptions(bootstrap, 'id', 'ns'), expected);
  assert.deepEqual(parseRuntimeOptions(bootstrap, 'another', 'ns'), {});
});

test('options of another runtime and damaged ones are none', () => {
  assert.deepEqual(
    parseRuntimeOptions(Buffer.concat([field(1, 'containerd.runc.v1.Options'), field(2, 'x')]), 'i', 'n'),
    {},
  );
  assert.deepEqual(parseRuntimeOptions(any.subarray(0, any.length - 3), 'i', 'n'), {});
  assert.deepEqual(parseRuntimeOptions(Buffer.from([0xff, 0xff]), 'i', 'n'), {});
  assert.deepEqual(parseRuntimeOptions(Buffer.alloc(maxOptionsBytes + 1), 'i', 'n'), {});
});

test('a configuration path that is not absolute is not taken', () => {
  const relative = Buffer.concat([field(1, 'runtimeoptions.v1.Options'), field(2, field(2, 'c.toml'))]);
  assert.deepEqual(parseRuntimeOptions(relative, 'i', 'n'), {});
});
