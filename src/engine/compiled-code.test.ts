import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { waitFor } from '../../test/support/wait.ts';
import { CompiledCode, tieringBudget } from './compiled-code.ts';

/** A module that exports `add`, the sum of two numbers, and `subtract`, their difference. */
const calculator = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 7, 1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f],
  ...[3, 3, 2, 0, 0],
  ...[7, 18, 2, 3, 0x61, 0x64, 0x64, 0, 0, 8, 0x73, 0x75, 0x62, 0x74, 0x72, 0x61, 0x63, 0x74, 0, 1],
  ...[10, 17, 2, 7, 0, 0x20, 0, 0x20, 1, 0x6a, 0x0b, 7, 0, 0x20, 0, 0x20, 1, 0x6b, 0x0b],
]);

const add = (module: WebAssembly.Module): number => {
  const { exports } = new WebAssembly.Instance(module);
  return (exports.add as (left: number, right: number) => number)(40, 2);
};

/** The code of the module once V8 has optimized `add`, taken out with V8's own flags. */
async function learnedModule(
  compiledCode: CompiledCode,
): Promise<readonly [module: WebAssembly.Module, code: Uint8Array]> {
  setFlagsFromString('--wasm-tiering-budget=1');
  try {
    const module = new WebAssembly.Module(calculator);
    await waitFor('optimized code', () => {
      assert.equal(add(module), 42);
      return compiledCode.of(module).length > 0;
    });
    setFlagsFromString(`--wasm-tiering-budget=${tieringBudget}`);
    return [module, compiledCode.of(module)];
  } finally {
    setFlagsFromString(`--wasm-tiering-budget=${tieringBudget}`);
  }
}

test('a module has the code that another one of the same bytes got', async () => {
  const compiledCode = new CompiledCode();
  const [, code] = await learnedModule(compiledCode);
  const again = compiledCode.moduleWith(calculator, code);
  assert.ok(again instanceof WebAssembly.Module);
  assert.equal(add(again), 42);
});

/** Bytes of the code that there is in another process, given this code, once `subtract` has been called a thousand times. */
async function lengthAfterCalls(folder: string, code: Uint8Array): Promise<number> {
  const file = join(folder, 'code');
  await writeFile(file, code);
  const script = `
    import { readFileSync } from 'node:fs';
    import { setFlagsFromString } from 'node:v8';
    import { CompiledCode } from ${JSON.stringify(new URL('./compiled-code.ts', import.meta.url).href)};
    const compiledCode = new CompiledCode();
    const module = compiledCode.moduleWith(Uint8Array.from(${JSON.stringify([...calculator])}), readFileSync(${JSON.stringify(file)}));
    setFlagsFromString('--wasm-sync-tier-up');
    const { subtract } = new WebAssembly.Instance(module).exports;
    for (let count = 0; count < 1_000; count += 1) subtract(44, 2);
    console.log(compiledCode.of(module).length);`;
  const args = ['--no-warnings', '--input-type=module', '--eval', script];
  return Number(execFileSync(process.execPath, args, { encoding: 'utf8' }));
}

test('functions that nobody called while code was learned are optimized when they have run for long, not before', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'compiled-code-'));
  t.after(() => rm(folder, { recursive: true }));
  const compiledCode = new CompiledCode();
  const [module, code] = await learnedModule(compiledCode);
  assert.ok((await lengthAfterCalls(folder, code)) > code.length, 'as V8 gives it');
  const changed = compiledCode.withBudgets(module, Uint8Array.from(code));
  assert.equal(await lengthAfterCalls(folder, changed), code.length);
  assert.equal(compiledCode.withBudgets(module, new Uint8Array()).length, 0);
});

test('code of other flags, cut code and what is none is not taken', async () => {
  const compiledCode = new CompiledCode();
  const [, code] = await learnedModule(compiledCode);
  setFlagsFromString('--wasm-max-mem-pages=100');
  try {
    assert.equal(compiledCode.moduleWith(calculator, code), undefined);
  } finally {
    setFlagsFromString('--wasm-max-mem-pages=4294967295');
  }
  assert.equal(compiledCode.moduleWith(calculator, code.subarray(0, 8)), undefined);
  assert.equal(compiledCode.moduleWith(calculator, new Uint8Array(64)), undefined);
  assert.equal(compiledCode.moduleWith(calculator, new Uint8Array()), undefined);
  assert.ok(compiledCode.moduleWith(calculator, code), 'and then the right one still is');
});

test('an installation without the addon is told', () => {
  assert.throws(() => new CompiledCode('/nowhere/v8-calls.node'), {
    code: 'failed-precondition',
    message: /"\/nowhere\/v8-calls\.node" cannot be loaded/,
  });
});
