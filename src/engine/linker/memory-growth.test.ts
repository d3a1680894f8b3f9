import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { parseComponent } from './component-parser.ts';
import { linkedComponent } from './jco-instance.ts';

/** `size`, `grow` and `sum` (of all bytes in 8-byte words), with globals, tables and code around them. */
const guest = `(component
  (core module $m
    (import "h" "never" (func $never))
    (table 2 funcref) (elem (i32.const 0) $size $never)
    (memory (export "memory") 2)
    (data (i32.const 0) "abcdefgh")
    (func $size (export "size") (result i32) (memory.size))
    (func (export "grow") (param i32) (result i32) (local i64) (memory.grow (local.get 0)))
    (func (export "fill") (param i32) (result i32)
      (memory.fill (i32.const 0) (i32.const 0xaa) (i32.mul (memory.size) (i32.const 65536)))
      (call_indirect (result i32) (i32.const 0)))
    (func (export "sum") (result i64) (local $at i32) (local $sum i64)
      (loop $next
        (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8)))
          (i32.mul (memory.size) (i32.const 65536)))))
      (local.get $sum)))
  (core module $h (func (export "never") unreachable))
  (core instance $hi (instantiate $h))
  (core instance $i (instantiate $m (with "h" (instance $hi))))
  (func (export "size") (result u32) (canon lift (core func $i "size")))
  (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
  (func (export "fill") (param "unused" u32) (result u32) (canon lift (core func $i "fill")))
  (func (export "sum") (result u64) (canon lift (core func $i "sum"))))`;

const maxMemoryPages = 10;
const text = 0x6867666564636261n;

test('a restored guest finds its memory as small as a new one, zero beyond, and has the same room to grow', async () => {
  const component = linkedComponent(await parse(guest), [], { maxMemoryPages });
  const instance = component.instantiate({});
  assert.equal(instance.snapshot().ok, true);
  const call = (name: string, ...args: number[]): Promise<unknown> => instance.call('', name, args);
  for (let round = 0; round < 3; round++) {
    assert.equal(await call('size'), 2);
    assert.equal(await call('grow', 0), 2);
    assert.equal(await call('grow', 9), -1, 'one page above the cap');
    assert.equal(await call('grow', -1), -1);
    assert.equal(await call('grow', 3 + round), 2);
    assert.equal(await call('size'), 5 + round);
    assert.equal(await call('sum'), text);
    assert.equal(await call('grow', 5 - round), 5 + round, 'to the cap');
    assert.equal(await call('grow', 1), -1);
    assert.equal(await call('sum'), text);
    assert.equal(await call('fill', 0), maxMemoryPages);
    assert.equal(instance.outgrown, false);
    instance.restore();
    assert.equal(instance.memoryBytes, maxMemoryPages * 65_536);
  }
});

/** A guest whose second module grows the first one's memory. */
const foreignGrowth = `(component
  (core module $a (memory (export "memory") 1) (func (export "size") (result i32) (memory.size)))
  (core module $b (import "a" "memory" (memory 1))
    (func (export "grow") (result i32) (memory.grow (i32.const 1))))
  (core instance $ai (instantiate $a))
  (core instance $bi (instantiate $b (with "a" (instance $ai))))
  (func (export "size") (result u32) (canon lift (core func $ai "size")))
  (func (export "grow") (result u32) (canon lift (core func $bi "grow"))))`;

test('an instance whose memory is grown by a module that does not own it has outgrown its image', async () => {
  const instance = linkedComponent(await parse(foreignGrowth), []).instantiate({});
  assert.equal(instance.snapshot().ok, true);
  assert.equal(await instance.call('', 'size', []), 1);
  assert.equal(instance.outgrown, false);
  assert.equal(await instance.call('', 'grow', []), 1);
  assert.equal(await instance.call('', 'size', []), 2);
  assert.equal(instance.outgrown, true);
});

test('a guest that grows its memory at its start is restored to that size', async () => {
  const wat = `(component
    (core module $m (memory 1)
      (func $s (drop (memory.grow (i32.const 200)))) (start $s)
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))
    (core instance $i (instantiate $m))
    (func (export "grow") (result u32) (canon lift (core func $i "grow"))))`;
  const instance = linkedComponent(await parse(wat), []).instantiate({});
  assert.equal(instance.snapshot().ok, true);
  for (let round = 0; round < 3; round++) {
    assert.equal(await instance.call('', 'grow', []), 201);
    instance.restore();
  }
});

test('code metadata, which speaks of offsets, is left out of a rewritten module, other custom sections are kept', async () => {
  const wat = `(component (core module $m (memory 1)
    (@custom "metadata.code.branch_hint" "\\00") (@custom "notes" "kept")
    (func (result i32) (memory.size))) (core instance (instantiate $m)))`;
  const parsed = parseComponent(await parse(wat), []);
  assert.ok(parsed.linkable);
  const text = Buffer.from(parsed.modules[0]?.bytes ?? []).toString('latin1');
  assert.deepEqual([text.includes('metadata.code'), text.includes('notes')], [false, true]);
  assert.ok(new WebAssembly.Module(Buffer.from(parsed.modules[0]?.bytes ?? [])));
});
