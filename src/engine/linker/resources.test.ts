import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { HandleTable, maxTableHandles } from './handle-table.ts';
import { linkedComponent } from './jco-instance.ts';
import type { LinkedInstance } from './linked-instance.ts';

test('handles are checked for presence, type and ownership', () => {
  const table = new HandleTable();
  const handle = table.addOwn(1, 'a');
  assert.equal(handle, 1);
  assert.throws(() => table.get(0, 1), /handle 0 is not in use/);
  assert.throws(() => table.get(2, 1), /handle 2 is not in use/);
  assert.throws(() => table.get(-1, 1), /is not in use/);
  assert.throws(() => table.get(handle, 2), /another resource type/);
  const call = { borrows: 0 };
  const lent = table.addBorrow(1, 'b', call);
  assert.equal(call.borrows, 1);
  assert.throws(() => table.takeOwn(lent, 1), /only borrowed/);
  table.drop(lent, 1);
  assert.equal(call.borrows, 0);
  assert.equal(table.takeOwn(handle, 1), 'a');
  assert.throws(() => table.takeOwn(handle, 1), /is not in use/);
  assert.equal(table.size, 0);
});

test('a handle in use by a host call is neither dropped nor given away', () => {
  const table = new HandleTable();
  const handle = table.addOwn(1, 'a');
  table.get(handle, 1).lends += 1;
  assert.throws(() => table.drop(handle, 1), /in use by a host call/);
  assert.throws(() => table.takeOwn(handle, 1), /in use by a host call/);
});

test('the table is bounded', () => {
  const table = new HandleTable();
  for (let count = 0; count < maxTableHandles; count++) table.addOwn(0, count);
  assert.throws(() => table.addOwn(0, 0), /more than 100000 handles/);
  table.drop(17, 0);
  assert.equal(table.addOwn(0, 0), 17);
});

/** Two resources of the host; every export is one thing a guest may do with them. */
const guest = `(component
  (import "test:a/host" (instance $host
    (export "thing" (type $thing (sub resource)))
    (export "other" (type $other (sub resource)))
    (export "[constructor]thing" (func (param "n" u32) (result (own $thing))))
    (export "[method]thing.value" (func (param "self" (borrow $thing)) (param "more" u32) (result u32)))
    (export "[static]thing.eat" (func (param "it" (own $thing)) (result u32)))
    (export "make-other" (func (result (own $other))))
    (export "[static]thing.constructor" (func (param "code" u32) (result u32)))
    (export "[method]thing.to-string" (func (param "self" (borrow $thing)) (result u32)))
    (export "has-own-property" (func (param "n" u32) (result u32)))))
  (alias export $host "thing" (type $thing))
  (alias export $host "other" (type $other))
  (alias export $host "[constructor]thing" (func $new-f))
  (alias export $host "[method]thing.value" (func $value-f))
  (alias export $host "[static]thing.eat" (func $eat-f))
  (alias export $host "make-other" (func $other-f))
  (alias export $host "[static]thing.constructor" (func $evil-f))
  (alias export $host "[method]thing.to-string" (func $text-f))
  (alias export $host "has-own-property" (func $own-f))
  (core func $new (canon lower (func $new-f)))
  (core func $value (canon lower (func $value-f)))
  (core func $eat (canon lower (func $eat-f)))
  (core func $other (canon lower (func $other-f)))
  (core func $evil (canon lower (func $evil-f)))
  (core func $text (canon lower (func $text-f)))
  (core func $own (canon lower (func $own-f)))
  (core func $drop (canon resource.drop $thing))
  (type $mine (resource (rep i32)))
  (core func $mine-new (canon resource.new $mine))
  (core func $mine-rep (canon resource.rep $mine))
  (core func $mine-drop (canon resource.drop $mine))
  (core module $m
    (import "h" "new" (func $new (param i32) (result i32)))
    (import "h" "value" (func $value (param i32 i32) (result i32)))
    (import "h" "eat" (func $eat (param i32) (result i32)))
    (import "h" "other" (func $other (result i32)))
    (import "h" "evil" (func $evil (param i32) (result i32)))
    (import "h" "text" (func $text (param i32) (result i32)))
    (import "h" "own" (func $own (param i32) (result i32)))
    (import "h" "drop" (func $drop (param i32)))
    (import "h" "mine-new" (func $mine-new (param i32) (result i32)))
    (import "h" "mine-rep" (func $mine-rep (param i32) (result i32)))
    (import "h" "mine-drop" (func $mine-drop (param i32)))
    (func (export "use") (param i32) (result i32) (local i32)
      (local.set 1 (call $new (local.get 0)))
      (call $value (local.get 1) (i32.const 1))
      (call $drop (local.get 1)))
    (func (export "give") (param i32) (result i32) (call $eat (call $new (local.get 0))))
    (func (export "keep") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "give-twice") (param i32) (result i32) (local i32)
      (local.set 1 (call $new (local.get 0)))
      (drop (call $eat (local.get 1)))
      (call $eat (local.get 1)))
    (func (export "drop-any") (param i32) (result i32) (call $drop (local.get 0)) (i32.const 0))
    (func (export "wrong-type") (param i32) (result i32) (call $value (call $other) (i32.const 1)))
    (func (export "evil") (param i32) (result i32) (call $evil (local.get 0)))
    (func (export "text") (param i32) (result i32) (call $text (call $new (local.get 0))))
    (func (export "own") (param i32) (result i32) (call $own (local.get 0)))
    (func (export "mine") (param i32) (result i32) (local i32)
      (local.set 1 (call $mine-new (local.get 0)))
      (call $mine-rep (local.get 1))
      (call $mine-drop (local.get 1)))
    (func (export "borrowed") (param i32 i32) (result i32)
      (call $value (local.get 0) (i32.const 0))
      (if (local.get 1) (then (call $drop (local.get 0)))))
    (func (export "owned") (param i32) (result i32) (call $value (local.get 0) (i32.const 0)) (call $drop (local.get 0))))
  (core instance $h
    (export "new" (func $new)) (export "value" (func $value)) (export "eat" (func $eat))
    (export "other" (func $other)) (export "evil" (func $evil)) (export "text" (func $text)) (export "own" (func $own))
    (export "drop" (func $drop)) (export "mine-new" (func $mine-new)) (export "mine-rep" (func $mine-rep))
    (export "mine-drop" (func $mine-drop)))
  (core instance $i (instantiate $m (with "h" (instance $h))))
  ${['use', 'give', 'keep', 'give-twice', 'drop-any', 'wrong-type', 'evil', 'text', 'own', 'mine']
    .map(
      (name) => `(alias core export $i "${name}" (core func $core-${name}))
  (func (export "${name}") (param "n" u32) (result u32) (canon lift (core func $core-${name})))`,
    )
    .join('\n')}
  (alias core export $i "borrowed" (core func $core-borrowed))
  (alias core export $i "owned" (core func $core-owned))
  (func (export "borrowed") (param "it" (borrow $thing)) (param "drops" bool) (result u32) (canon lift (core func $core-borrowed)))
  (func (export "owned") (param "it" (own $thing)) (result u32) (canon lift (core func $core-owned))))`;

class Thing {
  static readonly disposed: number[] = [];
  readonly #value: number;
  constructor(value: number) {
    this.#value = value;
  }
  value(more: number): number {
    return this.#value + more;
  }
  static eat(thing: Thing): number {
    return thing.value(100);
  }
  [Symbol.dispose](): void {
    Thing.disposed.push(this.#value);
  }
}
class Other {}

const bytes = await parse(guest);
const imports = { 'test:a/host': { Thing, Other, makeOther: () => new Other() } };

// Common host functions are lowered by hand; the same cases with all of them lowered by their types.
for (const onlyGeneric of [false, true]) {
  const component = linkedComponent(bytes, [], { onlyGeneric });
  const ways = onlyGeneric ? ' (generic)' : '';

  function instance(): LinkedInstance {
    Thing.disposed.length = 0;
    return component.instantiate(imports);
  }

  test(`objects are made, used, dropped and given away${ways}`, async () => {
    const guest = instance();
    assert.equal(await guest.call('', 'use', [7]), 8);
    assert.deepEqual(Thing.disposed, [7]);
    assert.equal(await guest.call('', 'give', [7]), 107);
    assert.deepEqual(Thing.disposed, [7]);
    assert.equal(guest.openHandles, 0);
    assert.equal(await guest.call('', 'keep', [7]), 1);
    assert.equal(guest.openHandles, 1);
    assert.equal(await guest.call('', 'mine', [42]), 42);
  });

  test(`a guest of its own handle tricks is ended${ways}`, async () => {
    await assert.rejects(instance().call('', 'give-twice', [7]), /handle 1 is not in use/);
    await assert.rejects(instance().call('', 'wrong-type', [7]), /another resource type/);
    for (const handle of [0, 1, 77, 0xffff_ffff])
      await assert.rejects(instance().call('', 'drop-any', [handle]), /is not in use/);
  });

  test(`nothing but what an interface defines itself is ever called${ways}`, async () => {
    await assert.rejects(
      instance().call('', 'evil', [1]),
      /"\[static\]thing.constructor".* does not provide/,
    );
    await assert.rejects(instance().call('', 'text', [1]), /"\[method\]thing.to-string".* does not provide/);
    await assert.rejects(instance().call('', 'own', [1]), /"has-own-property".* does not provide/);
  });

  test(`arguments are lent or given; a lent one must be dropped before the function returns${ways}`, async () => {
    const guest = instance();
    assert.equal(await guest.call('', 'borrowed', [new Thing(5), true]), 5);
    assert.deepEqual(Thing.disposed, []);
    assert.equal(await guest.call('', 'owned', [new Thing(6)]), 6);
    assert.deepEqual(Thing.disposed, [6]);
    await assert.rejects(guest.call('', 'borrowed', [new Thing(5), false]), /kept 1 borrowed handles/);
  });

  test(`an object of another class is not passed to the guest${ways}`, async () => {
    await assert.rejects(instance().call('', 'owned', [new Other()]), /where a "thing" is expected/);
  });

  test(`attaching other host objects changes what is called${ways}`, async () => {
    const guest = instance();
    class Double extends Thing {
      override value(more: number): number {
        return 2 * super.value(more);
      }
      static override eat(thing: Thing): number {
        return thing.value(1000);
      }
    }
    assert.equal(await guest.call('', 'use', [1]), 2);
    guest.attach({ 'test:a/host': { Thing: Double, Other, makeOther: () => new Other() } });
    assert.equal(await guest.call('', 'give', [1]), 2002);
    guest.attach({});
    await assert.rejects(guest.call('', 'use', [1]), /does not provide/);
  });
}
