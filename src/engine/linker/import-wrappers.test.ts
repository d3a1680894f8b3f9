import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

const wrappers = JSON.stringify(new URL('./import-wrappers.ts', import.meta.url).href);
const rehearsal = JSON.stringify(new URL('../rehearsal.ts', import.meta.url).href);

/** What V8 says it compiles for imports in a process that runs a module, one line each. */
function compiledBy(script: string): readonly string[] {
  const flags = ['--no-warnings', '--trace-wasm-compilation-times', '--input-type=module'];
  const output = execFileSync(process.execPath, [...flags, '--eval', script], { encoding: 'utf8' });
  return output.split('\n').filter((line) => line.includes('WasmToJS wrapper'));
}

const ahead = `
  import { Worker } from 'node:worker_threads';
  const { compileImportWrappers } = await import(${wrappers});
  const kept = compileImportWrappers();`;
const loaded = `const { rehearse } = await import(${rehearsal});`;

test('what was compiled ahead is not compiled again, nor by another thread', () => {
  const once = compiledBy(ahead);
  assert.ok(once.length > 8, once.join('\n'));
  const again = `import(${wrappers}).then(({ compileImportWrappers }) => compileImportWrappers())`;
  const worker = `new Worker(${JSON.stringify(again)}, { eval: true }).on('exit', () => kept.exports);`;
  assert.equal(compiledBy(`${ahead}\n${worker}`).length, once.length);
});

test('an app on its way to the first answer needs none but those', () => {
  const run = 'await rehearse(1, () => false);';
  // Node's own reader of modules has imports, too.
  const others = compiledBy(loaded).length;
  assert.ok(compiledBy(`${loaded}\n${run}`).length > others);
  assert.equal(
    compiledBy(`${ahead}\n${loaded}\n${run} kept.exports;`).length,
    compiledBy(ahead).length + others,
  );
});
