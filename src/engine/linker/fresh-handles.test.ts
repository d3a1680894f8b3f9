import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { linkedComponent } from './jco-instance.ts';

/** A guest with resources of its own: its start makes three and drops them, `make` answers the handle of a new one. */
const guest = `(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "r" "new" (func $new (param i32) (result i32)))
    (import "r" "drop" (func $drop (param i32)))
    (memory 1)
    (func $start (local i32 i32 i32)
      (local.set 0 (call $new (i32.const 1)))
      (local.set 1 (call $new (i32.const 2)))
      (local.set 2 (call $new (i32.const 3)))
      (call $drop (local.get 0)) (call $drop (local.get 2)) (call $drop (local.get 1)))
    (start $start)
    (func (export "make") (result i32) (call $new (i32.const 4))))
  (core instance $i (instantiate $m
    (with "r" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "make") (result u32) (canon lift (core func $i "make"))))`;

test('a restored guest gets the numbers of handles that a new one gets', async () => {
  const component = linkedComponent(await parse(guest), []);
  const make = (of: typeof instance): Promise<unknown> => of.call('', 'make', []);
  const instance = component.instantiate({});
  assert.equal(instance.snapshot().ok, true);
  const first = [await make(instance), await make(instance)];
  for (let round = 0; round < 3; round++) {
    instance.restore();
    assert.equal(instance.openHandles, 0);
    assert.deepEqual([await make(instance), await make(instance)], first);
  }
});
