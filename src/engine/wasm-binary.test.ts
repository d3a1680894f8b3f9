import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countFunctions, inspectWasm, maxExports } from './wasm-binary.ts';

const header = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

function leb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return bytes;
}

function text(value: string): number[] {
  const bytes = [...Buffer.from(value)];
  return [...leb(bytes.length), ...bytes];
}

function section(id: number, body: readonly number[]): number[] {
  return [id, ...leb(body.length), ...body];
}

function exportsOf(names: readonly string[]): number[] {
  return section(7, [...leb(names.length), ...names.flatMap((name) => [...text(name), 0, 0])]);
}

function inspect(...parts: readonly (readonly number[])[]): ReturnType<typeof inspectWasm> {
  return inspectWasm(Uint8Array.from(parts.flat()), 'x.wasm');
}

test('tells components, modules and text apart', () => {
  assert.deepEqual(inspect([0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00]), { kind: 'component' });
  assert.deepEqual(inspect(header), { kind: 'module', hasComponentType: false, exports: new Set() });
  for (const source of ['(module)', '  \n(component)', ';; comment\n(module)', '(; block ;)(module)'])
    assert.deepEqual(inspectWasm(Buffer.from(source), 'x.wat'), { kind: 'text' });
});

test('reads exports and component type sections of a module', () => {
  const shape = inspect(
    header,
    section(0, text('component-type:world')),
    section(1, [0]),
    exportsOf(['_start', '__proto__']),
  );
  assert.deepEqual(shape, {
    kind: 'module',
    hasComponentType: true,
    exports: new Set(['_start', '__proto__']),
  });
});

test('a custom section of another name is no component type', () => {
  assert.deepEqual(inspect(header, section(0, text('name'))), {
    kind: 'module',
    hasComponentType: false,
    exports: new Set(),
  });
});

const broken: readonly (readonly [name: string, bytes: readonly number[], reason: RegExp])[] = [
  ['an empty file', [], /the file is empty/],
  ['a file of one byte', [0x00], /begins with "00"/],
  ['an ELF file', [0x7f, 0x45, 0x4c, 0x46, 2], /begins with "7f 45 4c 46"/],
  ['the magic alone', header.slice(0, 4), /ends in the middle/],
  ['half a version', header.slice(0, 6), /ends in the middle/],
  ['an unknown version', [...header.slice(0, 4), 2, 0, 0, 0], /version field/],
  ['an unknown layer', [...header.slice(0, 4), 1, 0, 2, 0], /version field/],
  ['a section without a length', [...header, 1], /ends in the middle/],
  ['a section longer than the file', [...header, 1, 100, 0], /longer than the file/],
  ['a length of six bytes', [...header, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], /more than five bytes/],
  ['the longest section there is', [...header, 1, 0xff, 0xff, 0xff, 0xff, 0x0f], /longer than the file/],
  ['a name longer than its section', [...header, 0, 2, 0x7f, 0x61], /ends in the middle|beyond its section/],
  [
    'a name that reaches into the next section',
    [...header, ...section(0, [4, 0x61]), ...section(1, [0])],
    /beyond its section/,
  ],
  [
    'a count above the limit',
    [...header, ...section(7, leb(maxExports + 1))],
    /100001 exports, the limit is 100000/,
  ],
  [
    'a count with nothing behind it',
    [...header, ...section(7, leb(maxExports))],
    /ends in the middle|beyond its section/,
  ],
  [
    'exports that reach into the next section',
    [...header, ...section(7, [1, ...text('a'), 0]), ...section(1, [0])],
    /beyond its section/,
  ],
];

for (const [name, bytes, reason] of broken) {
  test(`${name} is refused with its reason`, () => {
    assert.throws(
      () => inspect(bytes),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'invalid-component');
        assert.match(error.message, reason);
        assert.match(error.message, /^x\.wasm /);
        return true;
      },
    );
  });
}

test('exports up to the limit are read', () => {
  const names = Array.from({ length: 1000 }, (_, index) => `e${index}`);
  const shape = inspect(header, exportsOf(names));
  assert.equal(shape.kind === 'module' && shape.exports.size, 1000);
});

test('counts the functions of a module', () => {
  const count = (...parts: readonly (readonly number[])[]): number =>
    countFunctions(Uint8Array.from([header, ...parts].flat()), 'x.wasm');
  const functions = section(3, [...leb(300), ...Array.from({ length: 300 }, () => 0)]);
  assert.equal(count(), 0);
  assert.equal(count(section(1, [1, 0x60, 0, 0]), functions, section(10, [0])), 300);
  assert.throws(() => count([3, 9, 1]), { code: 'invalid-component', message: /longer than the file/ });
});
