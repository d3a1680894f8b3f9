import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { parseComponent } from './component-parser.ts';
import { echoComponent } from './echo-component.ts';
import { jcoComponent } from './jco-instance.ts';

const fixture = (path: string): Promise<Buffer> =>
  readFile(new URL(`../../../fixtures/${path}`, import.meta.url));

async function reasonOf(text: string): Promise<string> {
  const parsed = parseComponent(await parse(text), []);
  assert.equal(parsed.linkable, false);
  return parsed.linkable ? '' : parsed.reason;
}

for (const path of ['hello/hello.wasm', 'rust-http/rust-http.wasm', 'rust-command/rust-command.wasm']) {
  test(`${path} is linkable, can be restored, and needs the imports that jco finds`, async () => {
    const bytes = await fixture(path);
    const parsed = parseComponent(bytes, []);
    assert.ok(parsed.linkable);
    assert.deepEqual(parsed.eligible, { ok: true });
    const jco = await jcoComponent(bytes, []);
    assert.deepEqual(
      jco.imports.filter((name) => !parsed.plan.imports.includes(name)),
      [],
    );
    for (const { bytes: module } of parsed.modules)
      assert.ok(WebAssembly.Module.exports(new WebAssembly.Module(Uint8Array.from(module))));
  });
}

test('what the linker does not do is left to jco, with the reason', async () => {
  assert.match(await reasonOf('(component (import "f" (func)))'), /imports the function "f" outside/);
  assert.match(await reasonOf('(component (import "r" (type (sub resource))))'), /outside of an interface/);
  assert.match(
    await reasonOf('(component (component $a (component $b)) (instance (instantiate $a)))'),
    /composed of several components/,
  );
  assert.match(
    await reasonOf('(component (import "a:b/c" (instance (export "f" (func (result (stream u8)))))))'),
    /kind 0x66/,
  );
  assert.match(
    await reasonOf(
      '(component (import "a:b/c" (instance $i (export "f" (func)))) (export "a:b/d" (instance $i)))',
    ),
    /exports the imported function "f"/,
  );
  assert.match(await reasonOf('(module)'), /does not begin as a component/);
});

test('a function that needs a memory or an allocator and names none is refused', async () => {
  const bytes = Buffer.from(
    await parse(echoComponent({ type: 'string', params: ['i32', 'i32'], result: 'pointer' })),
  );
  // canon lower: 01 00, function 0, two options: memory 0 and the allocator.
  const at = bytes.indexOf(Buffer.from([0x01, 0x00, 0x00, 0x02, 0x03, 0x00, 0x04]));
  assert.notEqual(at, -1);
  const without = Buffer.from(bytes);
  without.set([0x00, 0x00, 0x00], at + 4);
  const parsed = parseComponent(without, []);
  assert.equal(parsed.linkable, false);
});

test('a memory larger than the cap is refused, a smaller one is capped', async () => {
  const bytes = await parse(echoComponent({ type: 'string', params: ['i32', 'i32'], result: 'pointer' }));
  assert.equal(parseComponent(bytes, [], { maxMemoryPages: 1 }).linkable, true);
  const none = parseComponent(bytes, [], { maxMemoryPages: 0 });
  assert.match(none.linkable ? '' : none.reason, /the limit "maxMemoryPages" is 0/);
});

test('a component cut off anywhere answers, and never throws', async () => {
  const bytes = await fixture('hello/hello.wasm');
  for (let length = 0; length < bytes.length; length++) {
    const parsed = parseComponent(bytes.subarray(0, length), []);
    // Cut between two sections it is a smaller component; anywhere else it is none.
    assert.ok(parsed.linkable || parsed.reason.length > 0);
  }
});

/** A generator of the same numbers in every run. */
function* numbers(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state >>> 8;
  }
}

test('changed bytes anywhere answer, and never throw', async () => {
  const hello = await fixture('hello/hello.wasm');
  const random = numbers(7);
  for (let round = 0; round < 4000; round++) {
    const bytes = Buffer.from(hello);
    for (let change = 0; change < 1 + (round % 4); change++)
      bytes[random.next().value % bytes.length] = random.next().value & 0xff;
    const parsed = parseComponent(bytes, []);
    assert.ok(parsed.linkable || parsed.reason.length > 0);
  }
});

test('random sections answer, and never throw', () => {
  const random = numbers(11);
  for (let round = 0; round < 4000; round++) {
    const contents = Array.from(
      { length: random.next().value % 60 },
      () => random.next().value & (round % 2 ? 0xff : 0x0f),
    );
    const bytes = Buffer.from([
      0,
      0x61,
      0x73,
      0x6d,
      0x0d,
      0,
      1,
      0,
      random.next().value % 13,
      contents.length,
      ...contents,
    ]);
    const parsed = parseComponent(bytes, []);
    assert.ok(parsed.linkable || parsed.reason.length > 0);
  }
});

const header = [0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0];
const section = (id: number, ...contents: number[]): number[] => [id, ...leb(contents.length), ...contents];
const leb = (value: number): number[] =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(Math.floor(value / 128))];

test('huge counts, depths and sizes are refused in bounded time', () => {
  const huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
  for (const id of [1, 2, 4, 5, 6, 7, 8, 10, 11]) {
    assert.equal(parseComponent(Buffer.from([...header, ...section(id, ...huge)]), []).linkable, false);
    assert.equal(parseComponent(Buffer.from([...header, id, ...huge]), []).linkable, false);
  }
  const lists = [0x70, 0x7d];
  for (let depth = 0; depth < 200; depth++) lists.push(0x70, ...leb(depth));
  assert.match(reason([...header, ...section(7, ...leb(201), ...lists)]), /nested deeper/);
  const doubling = [0x6f, 2, 0x7d, 0x7d];
  for (let depth = 0; depth < 60; depth++) doubling.push(0x6f, 2, ...leb(depth), ...leb(depth));
  // Types nobody uses are never laid out.
  assert.equal(
    parseComponent(Buffer.from([...header, ...section(7, ...leb(61), ...doubling)]), []).linkable,
    true,
  );
  const instances: number[] = [];
  for (let depth = 0; depth < 40; depth++) instances.push(0x42, 1, 0x01);
  assert.match(reason([...header, ...section(7, 1, ...instances, 0x7f)]), /nested deeper/);
});

test('a value of 2 to the power of 60 bytes is refused', async () => {
  let text = '(type $t0 (tuple u8 u8))';
  for (let depth = 1; depth < 60; depth++) text += `(type $t${depth} (tuple $t${depth - 1} $t${depth - 1}))`;
  const parsed = parseComponent(
    await parse(`(component
      (import "a:b/c" (instance $i ${text} (export "f" (func (param "x" $t59)))))
      (core module $m (memory (export "m") 1)) (core instance $c (instantiate $m))
      (alias core export $c "m" (core memory $mem)) (alias export $i "f" (func $f))
      (core func (canon lower (func $f) (memory $mem))))`),
    [],
  );
  assert.match(parsed.linkable ? '' : parsed.reason, /more than 268435456 bytes/);
});

function reason(bytes: readonly number[]): string {
  const parsed = parseComponent(Buffer.from(bytes), []);
  return parsed.linkable ? '' : parsed.reason;
}
