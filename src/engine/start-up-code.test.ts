import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { InstanceScope } from '../host/scope.ts';
import type { InstanceHosts } from './guest-instance.ts';
import { LinkedRuntime } from './linked-runtime.ts';
import { CompiledPlan } from './linker/compiled-plan.ts';
import { parseComponent } from './linker/component-parser.ts';

/**
 * A guest that a tool gave a start module, as preview 1 reactors have: `_initialize` runs `initialize`, `start` runs
 * while the first module is instantiated. `read` answers what they left, `count` counts up.
 */
function reactor({ initialize = '', start = '' }: { initialize?: string; start?: string }): string {
  return `(component
    (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
    (import "wasi:cli/environment@0.2.0" (instance $cli (export "initial-cwd" (func (result u64)))))
    (core func $seed (canon lower (func $random "get-random-u64")))
    (core func $cwd (canon lower (func $cli "initial-cwd")))
    (core module $m
      (import "random" "seed" (func $seed (result i64)))
      (import "random" "cwd" (func $cwd (result i64)))
      (memory (export "memory") 1)
      (global $count (mut i64) (i64.const 0))
      (global $found (mut i64) (i64.const 0))
      (func $start ${start}) (start $start)
      (func (export "_initialize") ${initialize})
      (func (export "read") (result i64) (global.get $found))
      (func (export "count") (result i64)
        (global.set $count (i64.add (global.get $count) (i64.const 1)))
        (drop (memory.grow (i32.const 1)))
        (i64.add (i64.mul (global.get $count) (i64.const 1000)) (i64.extend_i32_u (memory.size)))))
    (core instance $i (instantiate $m (with "random" (instance
      (export "seed" (func $seed)) (export "cwd" (func $cwd))))))
    (core module $starter (import "" "" (func $run)) (start $run))
    (core instance (instantiate $starter (with "" (instance (export "" (func $i "_initialize"))))))
    (func (export "read") (result u64) (canon lift (core func $i "read")))
    (func (export "count") (result u64) (canon lift (core func $i "count"))))`;
}

const seeded = '(global.set $found (call $seed))';

/** Host objects with the next number for every request; `fails` makes one throw. */
class Hosts implements InstanceHosts {
  static next = 0n;
  static fails = false;
  readonly imports = {
    'wasi:random/random': {
      getRandomU64: () => {
        if (Hosts.fails) throw new Error('no random bytes');
        Hosts.next += 1n;
        return Hosts.next;
      },
    },
    'wasi:cli/environment': { initialCwd: () => 7n },
  };
  enter(): void {}
  leave(): void {}
}

const makeHosts = (): Hosts => new Hosts();

async function runtimeOf(wat: string): Promise<LinkedRuntime> {
  const parsed = parseComponent(await parse(wat), []);
  assert.ok(parsed.linkable, JSON.stringify(parsed));
  const modules = parsed.modules.map(({ bytes }) => new WebAssembly.Module(Buffer.from(bytes)));
  return new LinkedRuntime('c', new CompiledPlan(parsed.plan), modules, parsed.eligible.ok);
}

/** One request that reads and counts. */
async function request(runtime: LinkedRuntime): Promise<unknown[]> {
  const instance = await runtime.acquire(new InstanceScope(), makeHosts);
  const results = [await instance.call('', 'read', []), await instance.call('', 'count', [])];
  instance.release(true);
  return results;
}

const counted = 1002n;

test('start-up code that asks for nothing but what never changes runs once', async () => {
  const runtime = await runtimeOf(reactor({ initialize: '(global.set $found (call $cwd))' }));
  for (let round = 0; round < 3; round++) assert.deepEqual(await request(runtime), [7n, counted]);
  assert.deepEqual([runtime.restorePoint, runtime.idle], ['after-start', 1]);
});

test('an initializer that asks for random bytes runs for each request, in an instance that is kept', async () => {
  Hosts.next = 0n;
  const runtime = await runtimeOf(reactor({ initialize: seeded }));
  for (let round = 1n; round < 6n; round++) {
    assert.deepEqual(await request(runtime), [round, counted]);
    // The first one had started before it was known what it asks for.
    assert.equal(runtime.idle, round === 1n ? 0 : 1);
  }
  assert.equal(runtime.restorePoint, 'before-start');
});

test('a start function that asks for random bytes cannot run again: every instance is new', async () => {
  Hosts.next = 0n;
  const runtime = await runtimeOf(reactor({ start: seeded }));
  for (let round = 1n; round < 4n; round++) {
    assert.deepEqual(await request(runtime), [round, counted]);
    assert.equal(runtime.idle, 0);
  }
  assert.equal(runtime.restorePoint, 'never');
});

test('an instance whose start-up code fails is not kept, and the next request has a new one', async () => {
  const runtime = await runtimeOf(reactor({ initialize: seeded }));
  await request(runtime);
  await request(runtime);
  assert.equal(runtime.idle, 1);
  Hosts.fails = true;
  try {
    await assert.rejects(request(runtime), /no random bytes/);
    assert.equal(runtime.idle, 0);
    await assert.rejects(request(runtime), /no random bytes/);
  } finally {
    Hosts.fails = false;
  }
  assert.equal((await request(runtime))[1], counted);
  assert.equal(runtime.idle, 1);
});
