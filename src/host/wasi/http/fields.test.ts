import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultInstanceLimits, InstanceScope } from '../../scope.ts';
import { contentLengthOf, FieldMap, Fields, maxFieldBytes, maxFieldCount } from './fields.ts';
import { createHttp } from './http.ts';
import { OutboundClient } from './outbound.ts';
import { NameResolver, parseResolverConfig } from './resolver.ts';

const text = (value: string): Uint8Array => Buffer.from(value, 'latin1');

function plain(fields: Fields): [string, string][] {
  return fields.entries().map(([name, value]) => [name, Buffer.from(value).toString('latin1')]);
}

test('names are case-insensitive and keep the order of first insertion', () => {
  const scope = new InstanceScope();
  const fields = Fields.create(scope);
  fields.append('X-Two', text('a'));
  fields.append('x-one', text('b'));
  fields.append('x-TWO', text('c'));
  assert.deepEqual(plain(fields), [
    ['x-two', 'a'],
    ['x-two', 'c'],
    ['x-one', 'b'],
  ]);
  assert.equal(fields.has('X-ONE'), true);
  assert.deepEqual(fields.get('X-Two'), [text('a'), text('c')]);
  fields.set('x-two', [text('d')]);
  fields.delete('X-One');
  assert.deepEqual(plain(fields), [['x-two', 'd']]);
  fields.set('x-two', []);
  assert.deepEqual(plain(fields), []);
  assert.deepEqual(fields.get('not a name'), []);
});

test('names that objects give a meaning are names like others', () => {
  const fields = Fields.fromList(new InstanceScope(), [
    ['__proto__', text('1')],
    ['constructor', text('2')],
  ]);
  assert.deepEqual(plain(fields), [
    ['__proto__', '1'],
    ['constructor', '2'],
  ]);
  assert.equal(fields.has('toString'), false);
});

for (const name of ['', 'a b', 'a:b', 'ä', 'a\r\nb', 'a\0', '(x)']) {
  test(`the name ${JSON.stringify(name)} is invalid syntax`, () => {
    const fields = Fields.create(new InstanceScope());
    const error = { tag: 'invalid-syntax' };
    assert.throws(() => fields.append(name, text('v')), error);
    assert.throws(() => fields.set(name, [text('v')]), error);
    assert.throws(() => fields.delete(name), error);
    assert.throws(() => Fields.fromList(new InstanceScope(), [[name, text('v')]]), error);
  });
}

for (const value of ['a\r\nx-injected: 1', 'a\n', '\0', '\x7f', '\x01']) {
  test(`the value ${JSON.stringify(value)} is invalid syntax`, () => {
    const fields = Fields.create(new InstanceScope());
    assert.throws(() => fields.append('x', text(value)), { tag: 'invalid-syntax' });
    assert.throws(() => fields.set('x', [text('fine'), text(value)]), { tag: 'invalid-syntax' });
    assert.deepEqual(plain(fields), []);
  });
}

test('values may hold tabs, bytes above 0x7f, or nothing', () => {
  const fields = Fields.create(new InstanceScope());
  for (const value of ['', 'a\tb', '\x80\xff', ' padded ']) fields.append('x', text(value));
  assert.equal(fields.get('x').length, 4);
});

for (const name of ['Connection', 'host', 'Keep-Alive', 'transfer-encoding', 'upgrade', 'HTTP2-Settings']) {
  test(`a guest cannot set "${name}"`, () => {
    const fields = Fields.create(new InstanceScope());
    assert.throws(() => fields.append(name, text('v')), { tag: 'forbidden' });
    assert.throws(() => fields.set(name, [text('v')]), { tag: 'forbidden' });
  });
}

test('views of a message are immutable, hide forbidden fields, and clone into mutable ones', () => {
  const scope = new InstanceScope();
  const view = Fields.view(
    scope,
    FieldMap.received(scope, [
      ['Host', text('h')],
      ['X-A', text('1')],
    ]),
  );
  assert.deepEqual(plain(view), [['x-a', '1']]);
  assert.throws(() => view.append('x-b', text('2')), { tag: 'immutable' });
  assert.throws(() => view.set('x-a', []), { tag: 'immutable' });
  assert.throws(() => view.delete('x-a'), { tag: 'immutable' });
  const copy = view.clone();
  copy.append('x-b', text('2'));
  assert.deepEqual(plain(copy), [
    ['x-a', '1'],
    ['x-b', '2'],
  ]);
  assert.deepEqual(plain(view), [['x-a', '1']]);
});

test('the count of fields is limited', () => {
  const fields = Fields.create(new InstanceScope());
  for (let count = 0; count < maxFieldCount; count++) fields.append('x', text(''));
  assert.throws(() => fields.append('x', text('')), { code: 'resource-exhausted' });
});

test('the bytes of fields are limited, charged and given back', () => {
  const scope = new InstanceScope({ ...defaultInstanceLimits, maxHeldBytes: 2 * maxFieldBytes });
  const fields = Fields.create(scope);
  fields.append('x', new Uint8Array(maxFieldBytes - 1).fill(0x61));
  assert.throws(() => fields.append('x', text('')), { code: 'resource-exhausted' });
  const copy = fields.clone();
  assert.throws(() => fields.clone(), { code: 'resource-exhausted' });
  copy[Symbol.dispose]();
  fields.clone();
});

test('content-length is one number or invalid', () => {
  const of = (...values: string[]): unknown => {
    const map = new FieldMap(new InstanceScope());
    map.set('content-length', values.map(text));
    return contentLengthOf(map);
  };
  assert.equal(of(), undefined);
  assert.equal(of('0'), 0);
  assert.equal(of('12', '12'), 12);
  for (const values of [['1', '2'], ['-1'], ['+1'], ['1e3'], ['0x10'], [' 1'], ['9'.repeat(16)], ['']]) {
    assert.equal(of(...values), 'invalid', JSON.stringify(values));
  }
});

test('what the guest constructs belongs to its scope and passes for what the host makes', () => {
  const scope = new InstanceScope();
  const outbound = new OutboundClient({
    policy: {
      parse: () => undefined,
      allows: () => false,
      allowsSelf: () => false,
      namesAddress: () => false,
      blocks: () => false,
      refusal: () => [],
    },
    resolver: new NameResolver(parseResolverConfig('', '')),
  });
  const types = createHttp({ outbound, warn: () => {} }, scope).get('wasi:http/types') as {
    Fields: { new (): Fields; fromList(entries: readonly [string, Uint8Array][]): Fields };
    OutgoingRequest: new (headers: Fields) => object;
  };
  const fields = new types.Fields();
  assert.equal(scope.openHandles, 1);
  assert.ok(fields instanceof Fields);
  assert.ok(Fields.create(scope) instanceof types.Fields);
  assert.ok(types.Fields.fromList([['a', text('b')]]) instanceof types.Fields);
  assert.ok(new types.OutgoingRequest(fields) instanceof types.OutgoingRequest);
  // What jco makes of a handle that it does not know must not work.
  const forged: Fields = Object.create(types.Fields.prototype);
  assert.throws(() => forged.entries(), TypeError);
  assert.throws(() => new types.OutgoingRequest(forged), TypeError);
});
