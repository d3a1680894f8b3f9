import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { CompiledPlan } from './compiled-plan.ts';
import { linkedComponent } from './jco-instance.ts';
import { LinkedComponent } from './linked-component.ts';
import type { LinkedInstance } from './linked-instance.ts';

/**
 * A guest that passes on whatever pointers it is given, and whose allocator answers what global \`answer\` says: 0 is a
 * good pointer, 1 calls out, everything else is the pointer itself.
 */
const guest = `(component
  (type $v (variant (case "a" u8) (case "b" string)))
  (import "test:a/host" (instance $host
    (alias outer 1 $v (type $v0)) (export "v" (type $v (eq $v0)))
    (export "text" (func (param "s" string)))
    (export "words" (func (param "l" (list u32))))
    (export "texts" (func (param "l" (list string))))
    (export "letter" (func (param "c" char)))
    (export "choice" (func (param "v" $v)))
    (export "answer" (func (result string)))
    (export "answers" (func (result (list u64))))
    (export "pair" (func (result (tuple u64 u64))))))
  (core module $memory
    (import "late" "call" (func $call))
    (memory (export "memory") 1)
    (data (i32.const 0) "hello \\ff\\fe")
    (global $answer (export "answer") (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (if (i32.eq (global.get $answer) (i32.const 1)) (then (call $call)))
      (select (i32.const 4096) (global.get $answer) (i32.eqz (global.get $answer)))))
  (core module $table
    (table (export "t") 1 funcref)
    (type $f (func))
    (func (export "call") (call_indirect (type $f) (i32.const 0))))
  (core instance $t (instantiate $table))
  (alias core export $t "call" (core func $late))
  (core instance $late-i (export "call" (func $late)))
  (core instance $m (instantiate $memory (with "late" (instance $late-i))))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $realloc))
  (alias core export $m "answer" (core global $answer))
  ${['text', 'words', 'texts', 'letter', 'choice', 'answer', 'answers', 'pair']
    .map(
      (name) =>
        `(alias export $host "${name}" (func $f-${name}))
  (core func $c-${name} (canon lower (func $f-${name}) (memory $mem) (realloc $realloc)))`,
    )
    .join('\n')}
  (core module $main
    (import "m" "memory" (memory 1))
    (import "m" "answer" (global $answer (mut i32)))
    (import "t" "t" (table 1 funcref))
    (import "h" "text" (func $text (param i32 i32)))
    (import "h" "words" (func $words (param i32 i32)))
    (import "h" "texts" (func $texts (param i32 i32)))
    (import "h" "letter" (func $letter (param i32)))
    (import "h" "choice" (func $choice (param i32 i32 i32)))
    (import "h" "answer" (func $string (param i32)))
    (import "h" "answers" (func $list (param i32)))
    (import "h" "pair" (func $pair (param i32)))
    (func $out (call $letter (i32.const 97)))
    (elem (i32.const 0) $out)
    (func (export "text") (param i32 i32) (call $text (local.get 0) (local.get 1)))
    (func (export "words") (param i32 i32) (call $words (local.get 0) (local.get 1)))
    (func (export "texts") (param i32 i32) (call $texts (local.get 0) (local.get 1)))
    (func (export "letter") (param i32 i32) (call $letter (local.get 0)))
    (func (export "choice") (param i32 i32) (call $choice (local.get 0) (local.get 1) (i32.const 5)))
    (func (export "string") (param i32 i32) (global.set $answer (local.get 0)) (call $string (local.get 1)))
    (func (export "list") (param i32 i32) (global.set $answer (local.get 0)) (call $list (local.get 1)))
    (func (export "pair") (param i32 i32) (call $pair (local.get 0)))
    (func (export "amplify") (param i32 i32) (local i32)
      (drop (memory.grow (i32.const 300)))
      (loop $next
        (i32.store offset=65536 (local.get 2) (i32.const 0))
        (i32.store offset=65540 (local.get 2) (i32.const 60000))
        (br_if $next (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 8))) (i32.const 8000000))))
      (i32.store8 (i32.const 6) (i32.const 32)) (i32.store8 (i32.const 7) (i32.const 32))
      (call $texts (i32.const 65536) (i32.const 1000000))))
  (core instance $h ${['text', 'words', 'texts', 'letter', 'choice', 'answer', 'answers', 'pair'].map((name) => `(export "${name}" (func $c-${name}))`).join(' ')})
  (core instance $i (instantiate $main (with "m" (instance $m)) (with "t" (instance $t)) (with "h" (instance $h))))
  ${['text', 'words', 'texts', 'letter', 'choice', 'string', 'list', 'pair', 'amplify']
    .map(
      (name) => `(alias core export $i "${name}" (core func $x-${name}))
  (func (export "${name}") (param "a" u32) (param "b" u32) (canon lift (core func $x-${name})))`,
    )
    .join('\n')})`;

const bytes = await parse(guest);
/** The same component with common host functions lowered by hand, and with all of them lowered by their types. */
const components = [false, true].map((onlyGeneric) => linkedComponent(bytes, [], { onlyGeneric }));
const calls: unknown[] = [];
const note = (...args: unknown[]): void => void calls.push(...args);

function instanceOf(component: LinkedComponent): LinkedInstance {
  calls.length = 0;
  return component.instantiate({
    'test:a/host': {
      text: note,
      words: note,
      texts: note,
      letter: note,
      choice: note,
      answer: () => 'a text for the guest',
      answers: () => BigUint64Array.from([1n, 2n]),
      pair: () => [1n, 2n],
    },
  });
}

test('the guest works when it keeps to the rules', async () => {
  for (const component of components) await keepsToTheRules(instanceOf(component));
});

async function keepsToTheRules(good: LinkedInstance): Promise<void> {
  await good.call('', 'text', [0, 5]);
  await good.call('', 'words', [0, 1]);
  await good.call('', 'letter', [0x1f980, 0]);
  await good.call('', 'choice', [1, 0]);
  await good.call('', 'string', [0, 8]);
  await good.call('', 'list', [0, 8]);
  await good.call('', 'pair', [8, 0]);
  assert.deepEqual(calls, ['hello', Uint32Array.from([0x6c6c6568]), '🦀', { tag: 'b', val: 'hello' }]);
}

for (const [name, args, why] of [
  ['text', [0, 8], /not UTF-8/],
  ['text', [65530, 7], /outside of the memory/],
  ['text', [0xffff_ffff, 0xffff_ffff], /outside of the memory/],
  ['words', [2, 1], /not aligned to 4/],
  ['words', [65532, 2], /outside of the memory/],
  ['words', [0, 0x4000_0001], /outside of the memory/],
  ['texts', [0, 1], /outside of the memory/],
  ['letter', [0xd800, 0], /no character/],
  ['letter', [0x11_0000, 0], /no character/],
  ['letter', [0xffff_ffff, 0], /no character/],
  ['choice', [2, 0], /no case 2/],
  ['choice', [0xffff_ffff, 0], /no case/],
  ['string', [65530, 8], /outside of the memory/],
  ['string', [0xffff_ff00, 8], /outside of the memory/],
  ['string', [0, 65532], /outside of the memory/],
  ['string', [0, 9], /not aligned to 4/],
  ['list', [4100, 8], /not aligned to 8/],
  ['list', [1, 8], /calls out of its allocator/],
  ['pair', [12, 0], /not aligned to 8/],
  ['pair', [65528, 0], /outside of the memory/],
  ['amplify', [0, 0], /brings more than 67108864 bytes/],
] as const) {
  test(`${name}(${args.join(', ')}) ends the guest`, async () => {
    for (const component of components) {
      const bad = instanceOf(component);
      await assert.rejects(bad.call('', name, args), why);
      assert.deepEqual(calls, []);
      assert.notEqual(bad.dead, undefined);
    }
  });
}

const starting = (start: string): string => `(component
  (import "test:a/host" (instance $host (export "f" (func))))
  (alias export $host "f" (func $f-f)) (core func $f (canon lower (func $f-f)))
  (core module $m (import "h" "f" (func $f)) (memory 1) (func $own (call $f)) (start ${start}))
  (core instance $h (export "f" (func $f)))
  (core instance (instantiate $m (with "h" (instance $h)))))`;

test('a host function that may wait, called by start-up code, is refused with the reason', async () => {
  for (const start of ['$own', '$f']) {
    for (const onlyGeneric of [false, true]) {
      const waiting = linkedComponent(await parse(starting(start)), ['test:a/host#f'], { onlyGeneric });
      assert.throws(
        () => waiting.instantiate({ 'test:a/host': { f: () => {} } }),
        /may wait while it starts/,
      );
    }
  }
});

test('host calls of start-up code are told with the snapshot', async () => {
  for (const onlyGeneric of [false, true]) {
    const linked = linkedComponent(await parse(starting('$own')), [], { onlyGeneric });
    const made = linked.instantiate({ 'test:a/host': { f: () => {} } });
    assert.deepEqual([made.snapshot(), made.startCalls], [{ ok: true }, ['test:a/host#f']]);
  }
});

test('a plan of another revision is refused', () => {
  const [component] = components;
  assert.ok(component);
  const { plan, modules } = component;
  const other = { ...plan, revision: plan.revision + 1 };
  assert.throws(() => new CompiledPlan(other), /another version/);
  const own = new CompiledPlan(plan);
  assert.throws(() => new LinkedComponent(own, modules.slice(1)), /another version/);
});
