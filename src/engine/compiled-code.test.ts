import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { waitFor } from '../../test/support/wait.ts';
import { CompiledCode } from './compiled-code.ts';

/** A module that exports `add`, the sum of two numbers. */
const adder = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 7, 1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f],
  ...[3, 2, 1, 0],
  ...[7, 7, 1, 3, 0x61, 0x64, 0x64, 0, 0],
  ...[10, 9, 1, 7, 0, 0x20, 0, 0x20, 1, 0x6a, 0x0b],
]);

const add = (module: WebAssembly.Module): number => {
  const { exports } = new WebAssembly.Instance(module);
  return (exports.add as (left: number, right: number) => number)(40, 2);
};

/** The code of the module once V8 has optimized its function, taken out with V8's own flags. */
async function learned(compiledCode: CompiledCode): Promise<Uint8Array> {
  setFlagsFromString('--wasm-tiering-budget=1');
  try {
    const module = new WebAssembly.Module(adder);
    await waitFor('optimized code', () => {
      assert.equal(add(module), 42);
      return compiledCode.of(module).length > 0;
    });
    setFlagsFromString('--wasm-tiering-budget=13000000');
    return compiledCode.of(module);
  } finally {
    setFlagsFromString('--wasm-tiering-budget=13000000');
  }
}

test('a module has the code that another one of the same bytes got', async () => {
  const compiledCode = new CompiledCode();
  const code = await learned(compiledCode);
  const again = compiledCode.moduleWith(adder, code);
  assert.ok(again instanceof WebAssembly.Module);
  assert.equal(add(again), 42);
});

test('code of other flags, cut code and what is none is not taken', async () => {
  const compiledCode = new CompiledCode();
  const code = await learned(compiledCode);
  setFlagsFromString('--wasm-max-mem-pages=100');
  try {
    assert.equal(compiledCode.moduleWith(adder, code), undefined);
  } finally {
    setFlagsFromString('--wasm-max-mem-pages=4294967295');
  }
  assert.equal(compiledCode.moduleWith(adder, code.subarray(0, 8)), undefined);
  assert.equal(compiledCode.moduleWith(adder, new Uint8Array(64)), undefined);
  assert.equal(compiledCode.moduleWith(adder, new Uint8Array()), undefined);
  assert.ok(compiledCode.moduleWith(adder, code), 'and then the right one still is');
});

test('an installation without the addon is told', () => {
  assert.throws(() => new CompiledCode('/nowhere/v8-calls.node'), {
    code: 'failed-precondition',
    message: /"\/nowhere\/v8-calls\.node" cannot be loaded/,
  });
});
