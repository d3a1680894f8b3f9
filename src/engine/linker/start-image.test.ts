import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { CompiledPlan } from './compiled-plan.ts';
import { parseComponent } from './component-parser.ts';
import { LinkedComponent } from './linked-component.ts';
import type { LinkedInstance } from './linked-instance.ts';
import { makeImageFile } from './mapped-image.ts';
import { memoryExport } from './rewrite-module.ts';
import { minStartImageBytes } from './start-image.ts';

/** Text of a data segment of that many bytes, not one of them zero. */
function dataOf(length: number): string {
  return 'abcdefgh'.repeat(Math.ceil(length / 8)).slice(0, length);
}

const big = dataOf(minStartImageBytes);

/** A component around core modules in WAT, of which the first has the memory and the others import it. */
async function componentOf(main: string, ...others: readonly string[]): Promise<Uint8Array> {
  const modules = others.map(
    (fields, index) => `(core module $o${index} (import "main" "memory" (memory 1)) ${fields})
      (core instance (instantiate $o${index} (with "main" (instance $i))))`,
  );
  return parse(`(component
    (core module $main (memory (export "memory") 20) ${main})
    (core instance $i (instantiate $main)) ${modules.join('\n')})`);
}

type Parsed = Extract<ReturnType<typeof parseComponent>, { linkable: true }>;

function parsedOf(component: Uint8Array): Parsed {
  const parsed = parseComponent(component, []);
  assert.ok(parsed.linkable, parsed.linkable ? '' : parsed.reason);
  return parsed;
}

/** What the memory is when V8 puts the data there. */
async function memoryByV8(main: string): Promise<Buffer> {
  const module = await parse(`(module (memory (export "memory") 20) ${main})`);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(module)));
  return Buffer.from((exports.memory as WebAssembly.Memory).buffer);
}

function memoryOf({ coreExports }: LinkedInstance): Buffer {
  const owner = coreExports.find((exports) => Object.hasOwn(exports, memoryExport));
  assert.ok(owner !== undefined);
  return Buffer.from((owner[memoryExport] as WebAssembly.Memory).buffer);
}

const segments = `(data (i32.const 8) "${big}") (data (i32.const 16) "over it")
  (data (i32.const 1310716) "end.") (data (i32.const 700000) "") (data (i32.const 700000) "\\00\\01")`;

for (const way of ['file', 'bytes'] as const) {
  test(`data kept as an image (${way}) gives the memory that V8 gives, and gives it back`, async (t) => {
    const { plan, modules, start } = parsedOf(await componentOf(segments));
    assert.ok(start !== undefined);
    assert.equal(start.image.settled, true);
    // Not at its beginning, as in an entry.
    const at = 65_536;
    const fd =
      way === 'file'
        ? makeImageFile(at + start.bytes.length, [{ offset: at, bytes: start.bytes }])
        : undefined;
    if (fd !== undefined) t.after(() => closeSync(fd));
    assert.equal(fd !== undefined, way === 'file');
    const compiled = modules.map(({ bytes }) => new WebAssembly.Module(Uint8Array.from(bytes)));
    const kept = fd === undefined ? start : { image: start.image, fd, at };
    const component = new LinkedComponent(new CompiledPlan(plan), compiled, kept);
    const expected = await memoryByV8(segments);
    const [one, two] = [component.instantiate({}), component.instantiate({})];
    for (const instance of [one, two]) {
      assert.equal(instance.snapshot().ok, true);
      assert.ok(memoryOf(instance).equals(expected));
    }
    memoryOf(one).fill(7, 5, 100_000);
    assert.ok(memoryOf(two).equals(expected));
    const own = one.restore();
    assert.equal(own < expected.length, way === 'file', `${own} bytes of its own`);
    assert.ok(memoryOf(one).equals(expected));
  });
}

test('where code or another module writes to the memory at the start, what is restored is what it is then', async () => {
  for (const other of [
    '(data (i32.const 4) "1234")',
    `(func $s (i32.store8 (i32.const 4) (i32.const 49))) (start $s)`,
  ]) {
    const { start, ...parsed } = parsedOf(await componentOf(segments, other));
    assert.equal(start?.image.settled, false, other);
    const compiled = parsed.modules.map(({ bytes }) => new WebAssembly.Module(Uint8Array.from(bytes)));
    const instance = new LinkedComponent(new CompiledPlan(parsed.plan), compiled, start).instantiate({});
    const original = Buffer.from(memoryOf(instance));
    assert.equal(original[4], '1'.charCodeAt(0));
    assert.equal(instance.snapshot().ok, true);
    memoryOf(instance).fill(7);
    instance.restore();
    assert.ok(memoryOf(instance).equals(original));
  }
});

for (const [what, fields] of [
  ['little data', `(data (i32.const 0) "${big.slice(0, -100)}")`],
  ['an offset that is computed', `(global $g i32 (i32.const 8)) (data (global.get $g) "${big}")`],
  ['an offset that is a sum', `(data (i32.add (i32.const 8) (i32.const 8)) "${big}")`],
  ['a passive segment', `(data "${big}")`],
  ['a start function', `(data (i32.const 0) "${big}") (func $s) (start $s)`],
  ['a segment that does not fit', `(data (i32.const 1310717) "end.") (data (i32.const 0) "${big}")`],
  ['a segment before the beginning', `(data (i32.const -1) "x") (data (i32.const 0) "${big}")`],
] as const) {
  test(`a module with ${what} keeps its data`, async () => {
    const { start, modules } = parsedOf(await componentOf(fields));
    assert.equal(start, undefined);
    assert.ok(Buffer.from(modules[0]?.bytes ?? []).includes('abcdefghabcdefgh'));
  });
}

test('a guest that copies from its data after it was put in place finds it gone, as in V8', async () => {
  const copying = `(data $d (i32.const 8) "${big}")
    (func (export "copy") (param i32) (memory.init $d (i32.const 0) (i32.const 0) (local.get 0)))`;
  const { start, plan, modules } = parsedOf(await componentOf(copying));
  assert.ok(start !== undefined);
  const compiled = modules.map(({ bytes }) => new WebAssembly.Module(Uint8Array.from(bytes)));
  const instance = new LinkedComponent(new CompiledPlan(plan), compiled, start).instantiate({});
  const copy = instance.coreExports.find((exports) => Object.hasOwn(exports, 'copy'))?.copy;
  assert.ok(typeof copy === 'function');
  copy(0);
  assert.throws(() => copy(1), WebAssembly.RuntimeError);
});

test('an image of another size than the memory is refused', async () => {
  const { start, plan, modules } = parsedOf(await componentOf(segments));
  assert.ok(start !== undefined);
  const compiled = modules.map(({ bytes }) => new WebAssembly.Module(Uint8Array.from(bytes)));
  const wrong = { ...start, image: { ...start.image, memoryBytes: 65_536 * 21 } };
  assert.throws(
    () => new LinkedComponent(new CompiledPlan(plan), compiled, wrong).instantiate({}),
    /do not belong together/,
  );
});
