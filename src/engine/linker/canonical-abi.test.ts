import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { handOver } from '../../large-bytes.ts';
import { type EchoType, echoComponent } from './echo-component.ts';
import { jcoComponent, linkedComponent } from './jco-instance.ts';

type Case = EchoType & {
  readonly name: string;
  readonly values: readonly unknown[];
  readonly unlikeJco?: string;
};

const i32 = ['i32'];
const many = (count: number): string[] => Array.from({ length: count }, () => 'i32');
const labels = (count: number): string =>
  Array.from({ length: count }, (_value, index) => `"f-${index}x"`).join(' ');
const flags = (count: number, set: readonly number[]): Record<string, boolean> =>
  Object.fromEntries(Array.from({ length: count }, (_value, index) => [`f${index}x`, set.includes(index)]));
const wide = Array.from(
  { length: 17 },
  (_value, index) => `(field "a${index}" ${index % 2 ? 'u8' : 'u32'})`,
).join('');
const wideValue = Object.fromEntries(
  Array.from({ length: 17 }, (_value, index) => [
    `a${index}`,
    index % 2 ? 200 + index : 4_000_000_000 + index,
  ]),
);

const cases: readonly Case[] = [
  { name: 'bool', type: 'bool', params: i32, result: 'i32', values: [true, false] },
  { name: 's8', type: 's8', params: i32, result: 'i32', values: [-128, 127, 0, -1] },
  { name: 'u8', type: 'u8', params: i32, result: 'i32', values: [0, 255] },
  { name: 's16', type: 's16', params: i32, result: 'i32', values: [-32768, 32767] },
  { name: 'u16', type: 'u16', params: i32, result: 'i32', values: [65535] },
  { name: 's32', type: 's32', params: i32, result: 'i32', values: [-2147483648, 2147483647] },
  { name: 'u32', type: 'u32', params: i32, result: 'i32', values: [4294967295, 0] },
  { name: 's64', type: 's64', params: ['i64'], result: 'i64', values: [-(2n ** 63n), 2n ** 63n - 1n] },
  { name: 'u64', type: 'u64', params: ['i64'], result: 'i64', values: [2n ** 64n - 1n, 0n] },
  { name: 'f32', type: 'f32', params: ['f32'], result: 'f32', values: [1.5, -0, Infinity, Number.NaN] },
  { name: 'f64', type: 'f64', params: ['f64'], result: 'f64', values: [Math.PI, -Infinity] },
  { name: 'char', type: 'char', params: i32, result: 'i32', values: ['a', 'é', '🦀'] },
  {
    name: 'string',
    type: 'string',
    params: many(2),
    result: 'pointer',
    values: ['', 'abc', 'zwölf Boxkämpfer', '🦀'.repeat(100), 'x'.repeat(200_000)],
  },
  {
    name: 'string with a byte order mark',
    type: 'string',
    params: many(2),
    result: 'pointer',
    values: ['\ufeffa'],
    unlikeJco: 'jco drops it',
  },
  {
    name: 'list<u8>',
    type: '(list u8)',
    params: many(2),
    result: 'pointer',
    values: [new Uint8Array(0), Uint8Array.from([1, 2, 255]), new Uint8Array(300_000).fill(7)],
  },
  {
    name: 'list<s8>',
    type: '(list s8)',
    params: many(2),
    result: 'pointer',
    values: [Int8Array.from([-1, 2])],
  },
  {
    name: 'list<u16>',
    type: '(list u16)',
    params: many(2),
    result: 'pointer',
    values: [Uint16Array.from([1, 65535])],
  },
  {
    name: 'list<s16>',
    type: '(list s16)',
    params: many(2),
    result: 'pointer',
    values: [Int16Array.from([-1])],
  },
  {
    name: 'list<u32>',
    type: '(list u32)',
    params: many(2),
    result: 'pointer',
    values: [new Uint32Array(0), Uint32Array.from([4294967295])],
  },
  {
    name: 'list<s32>',
    type: '(list s32)',
    params: many(2),
    result: 'pointer',
    values: [Int32Array.from([-5])],
  },
  {
    name: 'list<u64>',
    type: '(list u64)',
    params: many(2),
    result: 'pointer',
    values: [BigUint64Array.from([2n ** 64n - 1n])],
  },
  {
    name: 'list<s64>',
    type: '(list s64)',
    params: many(2),
    result: 'pointer',
    values: [BigInt64Array.from([-5n])],
  },
  {
    name: 'list<f32>',
    type: '(list f32)',
    params: many(2),
    result: 'pointer',
    values: [Float32Array.from([1.5])],
  },
  {
    name: 'list<f64>',
    type: '(list f64)',
    params: many(2),
    result: 'pointer',
    values: [Float64Array.from([1.1])],
  },
  {
    name: 'list<bool>',
    type: '(list bool)',
    params: many(2),
    result: 'pointer',
    values: [[], [true, false, true]],
  },
  { name: 'list<char>', type: '(list char)', params: many(2), result: 'pointer', values: [['a', '🦀']] },
  {
    name: 'list<string>',
    type: '(list string)',
    params: many(2),
    result: 'pointer',
    values: [[], ['', 'a', 'ß'], Array.from({ length: 5000 }, (_v, i) => `item ${i}`)],
  },
  {
    name: 'list<list<u8>>',
    type: '(list (list u8))',
    params: many(2),
    result: 'pointer',
    values: [[Uint8Array.from([1]), new Uint8Array(0)]],
  },
  {
    name: 'tuple with gaps',
    type: '(tuple u8 u64 u8 f32)',
    params: ['i32', 'i64', 'i32', 'f32'],
    result: 'pointer',
    values: [[1, 2n, 3, 0.5]],
  },
  {
    name: 'list of tuples with gaps',
    type: '(list (tuple u8 u16 u8 u64 bool))',
    params: many(2),
    result: 'pointer',
    values: [
      [
        [1, 2, 3, 4n, true],
        [5, 6, 7, 8n, false],
      ],
    ],
  },
  { name: 'tuple of one', type: '(tuple u64)', params: ['i64'], result: 'i64', values: [[7n]] },
  {
    name: 'record',
    named: [['r', '(record (field "user-name" string) (field "age" u8) (field "tags" (list string)))']],
    type: '$r',
    params: many(5),
    result: 'pointer',
    values: [{ userName: 'ö', age: 9, tags: ['x', ''] }],
  },
  {
    name: 'record of 17 flat values',
    named: [['r', `(record ${wide})`]],
    type: '$r',
    params: 'pointer',
    result: 'pointer',
    values: [wideValue],
  },
  {
    name: 'variant of unlike payloads',
    named: [
      [
        'v',
        '(variant (case "none") (case "small" u8) (case "half" f32) (case "big" u64) (case "text" string) (case "full" f64) (case "pair" (tuple f32 f32)))',
      ],
    ],
    type: '$v',
    params: ['i32', 'i64', 'i32'],
    result: 'pointer',
    values: [
      { tag: 'none' },
      { tag: 'small', val: 200 },
      { tag: 'half', val: -1.5 },
      { tag: 'big', val: 2n ** 63n },
      { tag: 'text', val: 'hé' },
      { tag: 'full', val: Math.E },
      { tag: 'pair', val: [0.25, -0.75] },
    ],
  },
  {
    name: 'variant of f32 and u32',
    named: [['v', '(variant (case "a" f32) (case "b" u32))']],
    type: '$v',
    params: many(2),
    result: 'pointer',
    values: [
      { tag: 'a', val: 3.5 },
      { tag: 'b', val: 4_000_000_000 },
    ],
  },
  {
    name: 'variant of variants',
    named: [
      ['i', '(variant (case "x" u8) (case "y" f64))'],
      ['v', '(variant (case "i" $i) (case "s" string))'],
    ],
    type: '$v',
    params: ['i32', 'i32', 'i64'],
    result: 'pointer',
    values: [
      { tag: 'i', val: { tag: 'x', val: 3 } },
      { tag: 'i', val: { tag: 'y', val: 2.5 } },
      { tag: 's', val: 'abc' },
    ],
  },
  {
    name: 'enum',
    named: [['e', '(enum "red" "dark-green" "blue")']],
    type: '$e',
    params: i32,
    result: 'i32',
    values: ['red', 'dark-green', 'blue'],
  },
  {
    name: '3 flags',
    named: [['f', `(flags ${labels(3)})`]],
    type: '$f',
    params: i32,
    result: 'i32',
    values: [flags(3, []), flags(3, [0, 2])],
  },
  {
    name: '9 flags',
    named: [['f', `(flags ${labels(9)})`]],
    type: '$f',
    params: i32,
    result: 'i32',
    values: [flags(9, [8])],
  },
  {
    name: '32 flags',
    named: [['f', `(flags ${labels(32)})`]],
    type: '$f',
    params: i32,
    result: 'i32',
    values: [flags(32, [0, 15, 31])],
  },
  {
    name: 'list of 17 flags',
    named: [['f', `(flags ${labels(17)})`]],
    type: '(list $f)',
    params: many(2),
    result: 'pointer',
    values: [[flags(17, [16]), flags(17, [])]],
  },
  {
    name: 'option<u32>',
    type: '(option u32)',
    params: many(2),
    result: 'pointer',
    values: [undefined, 0, 7],
  },
  {
    name: 'option<string>',
    type: '(option string)',
    params: many(3),
    result: 'pointer',
    values: [undefined, '', 'a'],
  },
  {
    name: 'option<option<u64>>',
    type: '(option (option u64))',
    params: ['i32', 'i32', 'i64'],
    result: 'pointer',
    values: [{ tag: 'none' }, { tag: 'some', val: undefined }, { tag: 'some', val: 5n }],
  },
  {
    name: 'option<option<option<u8>>>',
    type: '(option (option (option u8)))',
    params: many(4),
    result: 'pointer',
    values: [undefined, { tag: 'none' }, { tag: 'some', val: undefined }, { tag: 'some', val: 5 }],
  },
  {
    name: 'option<result<u32, string>>',
    type: '(option (result u32 (error string)))',
    params: many(4),
    result: 'pointer',
    values: [undefined, { tag: 'ok', val: 7 }, { tag: 'err', val: 'no' }],
  },
  {
    name: 'list<result>',
    type: '(list (result))',
    params: many(2),
    result: 'pointer',
    values: [
      [
        { tag: 'ok', val: undefined },
        { tag: 'err', val: undefined },
      ],
    ],
  },
];

/** Common host functions lowered by hand, and all lowered by their types: `onlyGeneric`. */
const bothWays = [false, true];

for (const { name, values, unlikeJco, ...echo } of cases) {
  test(`${name} goes both ways as parameter and as result`, async () => {
    const bytes = await parse(echoComponent(echo));
    const seen: unknown[] = [];
    const imports = {
      'test:a/host': {
        f: (value: unknown) => {
          seen.push(value);
          return value;
        },
      },
    };
    for (const onlyGeneric of bothWays) {
      const linked = linkedComponent(bytes, [], { onlyGeneric }).instantiate(imports);
      for (const value of values) {
        const back = await linked.call('', 'g', [value]);
        assert.deepEqual(seen.pop(), value);
        assert.deepEqual(back, value);
      }
    }
    if (unlikeJco !== undefined) return;
    const jco = await (await jcoComponent(bytes, [])).instantiate(imports);
    const g = jco.g as unknown as (value: unknown) => Promise<unknown>;
    for (const value of values) {
      assert.deepEqual(await g(value), value);
      assert.deepEqual(seen.pop(), value);
    }
  });
}

const resultEcho: EchoType = {
  type: '(result u64 (error string))',
  params: ['i32', 'i64', 'i32'],
  result: 'pointer',
};

test('a result is returned or thrown, at both ends', async () => {
  const bytes = await parse(echoComponent(resultEcho));
  const imports = {
    'test:a/host': {
      f: ({ tag, val }: { tag: string; val: unknown }) => {
        if (tag === 'err') throw val;
        return val;
      },
    },
  };
  const linked = linkedComponent(bytes, []).instantiate(imports);
  assert.equal(await linked.call('', 'g', [{ tag: 'ok', val: 9n }]), 9n);
  await assert.rejects(linked.call('', 'g', [{ tag: 'err', val: 'no' }]), {
    name: 'ResultError',
    payload: 'no',
  });
  assert.equal(linked.dead, undefined);
  const jco = await (await jcoComponent(bytes, [])).instantiate(imports);
  const g = jco.g as unknown as (value: unknown) => Promise<unknown>;
  assert.equal(await g({ tag: 'ok', val: 9n }), 9n);
  await assert.rejects(g({ tag: 'err', val: 'no' }), { payload: 'no' });
});

test('an own property "payload" is the error; an Error without it traps and kills the instance', async () => {
  const bytes = await parse(echoComponent(resultEcho));
  let thrown: Error = Object.assign(new Error('x'), { payload: 'wrapped' });
  const linked = linkedComponent(bytes, []).instantiate({
    'test:a/host': {
      f: () => {
        throw thrown;
      },
    },
  });
  const value = { tag: 'ok', val: 9n };
  await assert.rejects(linked.call('', 'g', [value]), { payload: 'wrapped' });
  thrown = new Error('broken host');
  await assert.rejects(linked.call('', 'g', [value]), thrown);
  assert.equal(linked.dead, thrown);
  await assert.rejects(linked.call('', 'g', [value]), /has trapped/);
});

test('large lists that are handed over are freed when the guest has them, others are kept', async () => {
  const bytes = await parse(echoComponent({ type: '(list u8)', params: many(2), result: 'pointer' }));
  const large = Uint8Array.from({ length: 65_536 }, (_value, index) => index % 251);
  for (const onlyGeneric of bothWays) {
    const answers = [handOver(large.slice()), large.slice(), handOver(large.slice(0, 100))];
    const expected = answers.map((list) => list.slice());
    let calls = 0;
    const linked = linkedComponent(bytes, [], { onlyGeneric }).instantiate({
      'test:a/host': { f: () => answers[calls++] },
    });
    for (const list of expected) assert.deepEqual(await linked.call('', 'g', [new Uint8Array(0)]), list);
    const lengths = answers.map(({ length }) => length);
    assert.deepEqual(lengths, [0, 65_536, 100]);
  }
});

test('a host function that may wait suspends the guest', async () => {
  const bytes = await parse(echoComponent(resultEcho));
  const linked = linkedComponent(bytes, ['test:a/host#f']).instantiate({
    'test:a/host': {
      f: (value: { val: bigint }) => new Promise((resolve) => setImmediate(resolve, value.val)),
    },
  });
  const first = linked.call('', 'g', [{ tag: 'ok', val: 3n }]);
  await assert.rejects(linked.call('', 'g', [{ tag: 'ok', val: 4n }]), /is in use/);
  assert.equal(await first, 3n);
  assert.equal(await linked.call('', 'g', [{ tag: 'ok', val: 5n }]), 5n);
});

for (const [what, type, core, value] of [
  ['a string where a number belongs', 'u32', 'i32', 'x'],
  ['a number where a bigint belongs', 'u64', 'i64', 1],
  ['a surrogate where a character belongs', 'char', 'i32', '\ud800'],
] as const) {
  test(`a host that gives ${what} ends the guest`, async () => {
    const bytes = await parse(echoComponent({ type, params: [core], result: core }));
    for (const onlyGeneric of bothWays) {
      const linked = linkedComponent(bytes, [], { onlyGeneric }).instantiate({
        'test:a/host': { f: () => value },
      });
      const argument = type === 'u64' ? 1n : type === 'char' ? 'a' : 1;
      await assert.rejects(linked.call('', 'g', [argument]), /a host function gave a value of type/);
      assert.notEqual(linked.dead, undefined);
    }
  });
}
