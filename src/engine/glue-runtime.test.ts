import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { InstanceScope } from '../host/scope.ts';
import { GlueRuntime } from './glue-runtime.ts';
import { linkComponent } from './link.ts';
import { transpileComponent } from './transpile.ts';

/** Two components in one, as `wac` composes them: the outer one exports what the inner one counts in memory and globals. */
const composed = `(component
  (component $counter
    (core module $m
      (memory 1) (global $count (mut i32) (i32.const 0))
      (func (export "bump") (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store8 (i32.const 7) (i32.add (i32.load8_u (i32.const 7)) (i32.const 1)))
        (i32.add (i32.mul (global.get $count) (i32.const 100)) (i32.load8_u (i32.const 7)))))
    (core instance $i (instantiate $m))
    (func $bump (result u32) (canon lift (core func $i "bump")))
    (instance $exports (export "bump" (func $bump)))
    (export "test:a/counter" (instance $exports)))
  (component $middle
    (import "test:a/counter" (instance $c (export "bump" (func (result u32)))))
    (alias export $c "bump" (func $bump))
    (instance $exports (export "bump" (func $bump)))
    (export "test:a/counter" (instance $exports)))
  (instance $inner (instantiate $counter))
  (instance $outer (instantiate $middle (with "test:a/counter" (instance $inner "test:a/counter"))))
  (export "test:a/counter" (instance $outer "test:a/counter")))`;

test('a composed component, which jco runs, is instantiated anew for every request', async () => {
  const bytes = await parse(composed);
  assert.ok('reason' in linkComponent(bytes, []), 'the linker takes it');
  const { glue, coreModules } = await transpileComponent(bytes, [], 'a test');
  const modules = new Map(
    coreModules.map(([name, module]) => [name, new WebAssembly.Module(Buffer.from(module))]),
  );
  const runtime = await GlueRuntime.load('composed', { name: 'composed', text: glue }, modules);
  const hosts = { imports: {}, enter: () => {}, leave: () => {} };
  for (let round = 0; round < 3; round++) {
    const instance = await runtime.acquire(new InstanceScope(), () => hosts);
    assert.equal(await instance.call('test:a/counter', 'bump', []), 101);
    assert.equal(await instance.call('test:a/counter', 'bump', []), 202);
    instance.release(true);
  }
});
