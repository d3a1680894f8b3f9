import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { InstanceScope } from '../host/scope.ts';
import type { InstanceHosts } from './guest-instance.ts';
import { LinkedRuntime, type PoolLimits } from './linked-runtime.ts';
import { CompiledPlan } from './linker/compiled-plan.ts';
import { parseComponent } from './linker/component-parser.ts';

const roomy: PoolLimits = {
  maxIdle: 10,
  maxIdleBytes: 1024 * 1024,
  maxInstanceBytes: 128 * 1024,
  maxUses: 10,
};

/** Counts its calls in memory, takes pages, traps; `start` is WAT that runs while it is instantiated. */
function counter(start = ''): string {
  return `(component
    (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
    (core func $seed (canon lower (func $random "get-random-u64")))
    (core module $m
      (import "random" "seed" (func $seed (result i64)))
      (memory (export "memory") 1)
      (func (export "bump") (result i32)
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (i32.load (i32.const 0)))
      (func (export "grow") (result i32) (memory.grow (i32.const 2)))
      (func (export "trap") (result i32) unreachable)
      (func $deep (export "deep") (result i32) (i32.add (call $deep) (i32.const 1)))
      (func (export "ask") (result i32) (i32.wrap_i64 (call $seed)))
      ${start})
    (core instance $i (instantiate $m (with "random" (instance (export "seed" (func $seed))))))
    (func (export "bump") (result u32) (canon lift (core func $i "bump")))
    (func (export "ask") (result u32) (canon lift (core func $i "ask")))
    (func (export "grow") (result u32) (canon lift (core func $i "grow")))
    (func (export "deep") (result u32) (canon lift (core func $i "deep")))
    (func (export "trap") (result u32) (canon lift (core func $i "trap"))))`;
}

/** Host objects that tell in which scope they are asked for random bytes. */
class Hosts implements InstanceHosts {
  scope: InstanceScope | undefined;
  readonly imports = {
    'wasi:random/random': {
      getRandomU64: () => {
        asked.push(this.scope);
        return 7n;
      },
    },
  };

  constructor() {
    made.push(this);
  }

  enter(scope: InstanceScope): void {
    this.scope = scope;
  }

  leave(): void {
    this.scope = undefined;
  }
}

const asked: (InstanceScope | undefined)[] = [];
const made: Hosts[] = [];
const makeHosts = (): Hosts => new Hosts();

async function runtimeOf(wat: string, limits: Partial<PoolLimits> = {}): Promise<LinkedRuntime> {
  const parsed = parseComponent(await parse(wat), []);
  assert.ok(parsed.linkable, JSON.stringify(parsed));
  const modules = parsed.modules.map(({ bytes }) => new WebAssembly.Module(Buffer.from(bytes)));
  return new LinkedRuntime('c', new CompiledPlan(parsed.plan), modules, parsed.eligible.ok, {
    ...roomy,
    ...limits,
  });
}

/** One request: acquire, call, give back. */
async function request(runtime: LinkedRuntime, name: string): Promise<unknown> {
  const instance = await runtime.acquire(new InstanceScope(), makeHosts);
  try {
    const result = await instance.call('', name, []);
    instance.release(true);
    return result;
  } catch (thrown) {
    instance.release(false);
    throw thrown;
  }
}

test('an instance is kept, and the next request finds it in its first state', async () => {
  const runtime = await runtimeOf(counter());
  for (let count = 0; count < 5; count++) {
    assert.equal(await request(runtime, 'bump'), 1);
    assert.equal(runtime.idle, 1);
  }
});

test('the host objects of an instance work in the scope of each request, and in none between two', async () => {
  const runtime = await runtimeOf(counter());
  made.length = 0;
  asked.length = 0;
  const scopes = [new InstanceScope(), new InstanceScope()];
  for (const scope of scopes) {
    const instance = await runtime.acquire(scope, makeHosts);
    assert.equal(await instance.call('', 'ask', []), 7);
    instance.release(true);
    assert.deepEqual(
      made.map((hosts) => hosts.scope),
      [undefined],
    );
  }
  assert.deepEqual(asked, scopes);
});

test('an instance made over other host objects gets those of the request that takes it', async () => {
  const runtime = await runtimeOf(counter());
  made.length = 0;
  asked.length = 0;
  (await runtime.acquire(new InstanceScope(), () => new Hosts())).release(true);
  const scope = new InstanceScope();
  for (let count = 0; count < 2; count++) {
    const instance = await runtime.acquire(scope, makeHosts);
    await instance.call('', 'ask', []);
    instance.release(true);
  }
  assert.equal(made.length, 2);
  assert.deepEqual(asked, [scope, scope]);
  assert.equal(runtime.idle, 1);
});

test('requests at the same time have an instance each', async () => {
  const runtime = await runtimeOf(counter());
  const [first, second] = [
    await runtime.acquire(new InstanceScope(), makeHosts),
    await runtime.acquire(new InstanceScope(), makeHosts),
  ];
  assert.deepEqual([await first.call('', 'bump', []), await second.call('', 'bump', [])], [1, 1]);
  first.release(true);
  second.release(true);
  assert.equal(runtime.idle, 2);
  assert.throws(() => first.release(true), { code: 'internal' });
});

test('an instance that trapped or whose call was given up is not kept', async () => {
  const runtime = await runtimeOf(counter());
  await assert.rejects(request(runtime, 'trap'), /unreachable/);
  (await runtime.acquire(new InstanceScope(), makeHosts)).release(false);
  assert.equal(runtime.idle, 0);
});

test('an instance is thrown away after its last use, the one before not', async () => {
  const runtime = await runtimeOf(counter(), { maxUses: 2 });
  await request(runtime, 'bump');
  assert.equal(runtime.idle, 1);
  assert.equal(await request(runtime, 'bump'), 1);
  assert.equal(runtime.idle, 0);
});

test('an instance whose memory grew above the limit is not kept, one at the limit is', async () => {
  const three = 3 * 65_536;
  const above = await runtimeOf(counter(), { maxInstanceBytes: three - 1 });
  await request(above, 'grow');
  assert.equal(above.idle, 0);
  const at = await runtimeOf(counter(), { maxInstanceBytes: three });
  await request(at, 'grow');
  assert.equal(at.idle, 1);
  assert.equal(await request(at, 'bump'), 1);
});

for (const [limits, kept] of [
  [{ maxIdle: 2 }, 2],
  [{ maxIdle: 0 }, 0],
  [{ maxIdleBytes: 2 * 65_536 }, 2],
  [{ maxIdleBytes: 2 * 65_536 - 1 }, 1],
] as const) {
  test(`of three instances ${kept} are kept with ${JSON.stringify(limits)}`, async () => {
    const runtime = await runtimeOf(counter(), limits);
    const instances = [
      await runtime.acquire(new InstanceScope(), makeHosts),
      await runtime.acquire(new InstanceScope(), makeHosts),
      await runtime.acquire(new InstanceScope(), makeHosts),
    ];
    for (const instance of instances) instance.release(true);
    assert.equal(runtime.idle, kept);
  });
}

test('a guest that reads random bytes while it starts gets a new instance for every request', async () => {
  const runtime = await runtimeOf(counter('(func $s (drop (call $seed))) (start $s)'));
  for (let count = 0; count < 2; count++) {
    assert.equal(await request(runtime, 'bump'), 1);
    assert.equal(runtime.idle, 0);
  }
});

test('a guest that calls itself without end is ended by the depth of its stack, and the next one is served', async () => {
  const runtime = await runtimeOf(counter());
  await assert.rejects(request(runtime, 'deep'), { name: 'RangeError', message: /Maximum call stack size/ });
  assert.equal(runtime.idle, 0);
  assert.equal(await request(runtime, 'bump'), 1);
});
