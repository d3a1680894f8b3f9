import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { parseComponent } from './component-parser.ts';
import { linkedComponent } from './jco-instance.ts';
import { MemoryImage } from './memory-image.ts';

/** A component around core modules: the first has the memory, each function of `exports` is `(func (result u64))`. */
const counting = `(component
  (core module $main
    (memory (export "memory") 1)
    (global $count (mut i64) (i64.const 5))
    (global $ratio (mut f64) (f64.const 0.5))
    (global $fixed i32 (i32.const 9))
    (data (i32.const 100) "static")
    (func $start (i32.store8 (i32.const 70) (i32.const 7)) (global.set $count (i64.const 6)))
    (start $start)
    (func (export "step") (result i64)
      (drop (memory.grow (i32.const 1)))
      (i32.store8 (i32.const 100) (i32.add (i32.load8_u (i32.const 100)) (i32.const 1)))
      (i32.store8 (i32.const 70) (i32.add (i32.load8_u (i32.const 70)) (i32.const 1)))
      (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 1))
      (global.set $count (i64.add (global.get $count) (i64.const 1)))
      (global.set $ratio (f64.mul (global.get $ratio) (f64.const 2)))
      (i64.add (i64.add (i64.add
        (i64.mul (global.get $count) (i64.const 1000000))
        (i64.trunc_f64_u (f64.mul (global.get $ratio) (f64.const 100000))))
        (i64.extend_i32_u (i32.mul (i32.load8_u (i32.const 70)) (i32.const 1000))))
        (i64.extend_i32_u (i32.load8_u (i32.const 100)))))
    (func (export "dirty") (result i64) (local $at i32) (local $sum i64)
      (local.set $at (i32.const 65536))
      (block $out (loop $next
        (br_if $out (i32.ge_u (local.get $at) (i32.mul (memory.size) (i32.const 65536))))
        (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next)))
      (local.get $sum))
    (func (export "trap") (result i64) unreachable))
  (core instance $i (instantiate $main))
  (alias core export $i "step" (core func $step))
  (alias core export $i "dirty" (core func $dirty))
  (alias core export $i "trap" (core func $trap))
  (func (export "step") (result u64) (canon lift (core func $step)))
  (func (export "dirty") (result u64) (canon lift (core func $dirty)))
  (func (export "trap") (result u64) (canon lift (core func $trap))))`;

test('memory, static data, start-up writes and globals come back; grown memory is zero again', async () => {
  const component = linkedComponent(await parse(counting), [], { maxMemoryPages: 40 });
  const instance = component.instantiate({});
  assert.deepEqual([instance.snapshot(), instance.startCalls], [{ ok: true }, []]);
  // count 7, ratio 1.0, byte at 70: 8, byte at 100: 't'
  const fresh = 7_000_000n + 100_000n + 8_000n + 116n;
  for (let round = 0; round < 50; round++) {
    assert.equal(await instance.call('', 'step', []), fresh);
    assert.notEqual(await instance.call('', 'step', []), fresh);
    instance.restore();
    assert.equal(await instance.call('', 'dirty', []), 0n);
    instance.restore();
  }
  assert.equal(instance.memoryBytes, 3 * 65536, 'two pages more, not two for every request');
});

test('an instance without an image, a dead one and one in use cannot be restored', async () => {
  const component = linkedComponent(await parse(counting), []);
  const instance = component.instantiate({});
  assert.throws(() => instance.restore(), /cannot be restored/);
  assert.equal(instance.snapshot().ok, true);
  await assert.rejects(instance.call('', 'trap', []), /unreachable/);
  assert.throws(() => instance.restore(), /cannot be restored/);
  assert.deepEqual(instance.snapshot(), { ok: false, reason: 'the instance has trapped or is in use' });
});

test('instances that begin alike share one image', async () => {
  const component = linkedComponent(await parse(counting), []);
  const images = [1, 2, 3].map(() => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    return component.imageOf(memory);
  });
  assert.equal(new Set(images).size, 1);
  const another = new WebAssembly.Memory({ initial: 1 });
  new Uint8Array(another.buffer)[0] = 1;
  assert.notEqual(component.imageOf(another), images[0]);
});

for (const [what, fields, reason] of [
  ['two memories', '(memory 1) (memory 1)', /2 memories/],
  ['no memory', '', /0 memories/],
  [
    'a table it changes',
    '(memory 1) (table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))',
    /table.set/,
  ],
  [
    'a table it grows',
    '(memory 1) (table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))',
    /table.grow/,
  ],
  [
    'a table it fills',
    '(memory 1) (table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))',
    /table.fill/,
  ],
  [
    'a table it copies',
    '(memory 1) (table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 0)))',
    /table.copy/,
  ],
  [
    'a table it initializes',
    '(memory 1) (table 1 funcref) (elem $e func) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 0)))',
    /table.init/,
  ],
  ['elements it drops', '(memory 1) (elem $e func) (func (elem.drop $e))', /elem.drop/],
  ['data it drops', '(memory 1) (data $d "x") (func (data.drop $d))', /data.drop/],
  ['a reference in a mutable global', '(memory 1) (global (mut funcref) (ref.null func))', /no number/],
  ['a vector in a mutable global', '(memory 1) (global (mut v128) (v128.const i64x2 0 0))', /no number/],
  ['an exception', '(memory 1) (tag $t) (func (throw $t))', /throw/],
  ['an atomic instruction', '(memory 1) (func (drop (i32.atomic.load (i32.const 0))))', /atomic/],
  ['a shared memory', '(memory 1 2 shared)', /shared/],
  [
    'a structure on the heap',
    '(memory 1) (type $s (struct)) (func (drop (struct.new $s)))',
    /garbage collection/,
  ],
  ['a small integer reference', '(memory 1) (func (drop (ref.i31 (i32.const 1))))', /garbage collection/],
  ['a call of a reference', '(memory 1) (type $f (func)) (func (call_ref $f (ref.null $f)))', /call_ref/],
  ['a handler of exceptions', '(memory 1) (tag $t) (func (block (try_table (catch_all 0))))', /try_table/],
  ['typed references', '(memory 1) (type $f (func)) (func (local (ref null $f)))', /typed references/],
  [
    'an external reference in a mutable global',
    '(memory 1) (global (mut externref) (ref.null extern))',
    /no number/,
  ],
  ['a name the linker needs', '(memory (export "$g0") 1)', /exports "\$g0"/],
] as const) {
  test(`a guest with ${what} cannot be restored`, async () => {
    const parsed = parseComponent(
      await parse(`(component (core module $m ${fields}) (core instance (instantiate $m)))`),
      [],
    );
    assert.ok(parsed.linkable);
    assert.match(parsed.eligible.ok ? '' : parsed.eligible.reason, reason);
  });
}

test('a guest with vectors, bulk memory, tail calls and every number instruction can be restored', async () => {
  const parsed = parseComponent(
    await parse(`(component (core module $m
      (memory 1) (table $t 2 funcref) (elem (i32.const 0) $f) (data $d "abc")
      (type $n (func)) (global $g (mut i32) (i32.add (i32.const 1) (i32.const 2)))
      (func $f (return_call $f))
      (func $h (return_call_indirect (type $n) (i32.const 0)))
      (func (param i32) (result i32) (local v128 f32 f64 i64)
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))
        (memory.copy (i32.const 0) (i32.const 8) (i32.const 8))
        (memory.fill (i32.const 0) (i32.const 8) (i32.const 8))
        (local.set 1 (v128.load8_lane 3 (i32.const 0) (local.get 1)))
        (local.set 1 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 1) (local.get 1)))
        (local.set 1 (i32x4.replace_lane 2 (local.get 1) (i32.const 7)))
        (local.set 1 (v128.load64_zero offset=300000 (i32.const 0)))
        (local.set 1 (i8x16.relaxed_swizzle (local.get 1) (v128.const i32x4 1 2 3 -1)))
        (local.set 4 (i64.const -9223372036854775808))
        (local.set 3 (f64.const 1e300)) (local.set 2 (f32.const 1e30))
        (local.set 4 (i64.trunc_sat_f64_s (local.get 3)))
        (drop (select (result i32) (i32.const 1) (i32.const 2) (local.get 0)))
        (drop (table.size $t)) (drop (ref.is_null (table.get $t (i32.const 0)))) (drop (ref.func $f))
        (block (block (block (br_table 0 1 2 (local.get 0)))))
        (drop (i64.extend32_s (local.get 4)))
        (if (result i32) (local.get 0) (then (memory.grow (i32.const 0))) (else (memory.size)))))
      (core instance (instantiate $m)))`),
    [],
  );
  assert.ok(parsed.linkable);
  assert.deepEqual(parsed.eligible, { ok: true });
  for (const { bytes } of parsed.modules) {
    const exports = WebAssembly.Module.exports(new WebAssembly.Module(Uint8Array.from(bytes)));
    assert.deepEqual(exports, [
      { name: '$memory', kind: 'memory' },
      { name: '$pages', kind: 'global' },
      { name: '$g0', kind: 'global' },
    ]);
  }
});

test('an image restores whatever was written, at the edges of its blocks too', () => {
  const own = new WebAssembly.Memory({ initial: 2 });
  const memory = Buffer.from(own.buffer);
  memory.fill('abc', 4090, 4100).fill('z', 65536 * 2 - 1);
  const image = MemoryImage.of(memory);
  assert.ok(image.storedBytes < 5 * 4096);
  const original = Buffer.from(memory);
  assert.ok(image.matches(memory));
  own.grow(1);
  const grown = Buffer.from(own.buffer).fill(0xff);
  assert.ok(!image.matches(grown));
  assert.equal(image.restore(own, grown), grown.length);
  assert.ok(grown.subarray(0, 65536 * 2).equals(original));
  assert.ok(grown.subarray(65536 * 2).every((byte) => byte === 0));
  original[5000] = 1;
  assert.ok(!image.matches(original));
});
