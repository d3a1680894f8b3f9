import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { asyncImports } from '../host/async-imports.ts';
import { dropDebugLines, patchAsyncGlue } from './glue-async-patches.ts';
import { fixtures } from './test-engine.ts';
import { transpileComponent } from './transpile.ts';

test('glue without the async ABI stays as it is', () => {
  assert.equal(patchAsyncGlue('setInterval(f)', 'x'), 'setInterval(f)');
});

test('glue in which the place of a patch is not found is refused with its name', () => {
  assert.throws(() => patchAsyncGlue('await _driverLoop({', 'component "c"'), {
    code: 'internal',
    message: /component "c".*\(instantiate\).* reinstall/,
  });
});

test('a component that has no use for streams and futures is patched as far as its glue goes', async () => {
  const { parse } = await import('@bytecodealliance/jco-transpile/wasm-tools');
  const component = await parse(`(component
    (core module $m
      (import "" "task.return" (func $return (param i32)))
      (func (export "run") (result i32) (call $return (i32.const 7)) (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core func $return (canon task.return (result u32)))
    (core instance $i (instantiate $m (with "" (instance (export "task.return" (func $return))))))
    (func (export "run") async (result u32)
      (canon lift (core func $i "run") async (callback (core func $i "callback")))))`);
  const { glue } = await transpileComponent(component, asyncImports, 'no-streams');
  assert.doesNotMatch(glue, /waitInterval/);
  assert.match(glue, /control\.exited/);
});

test('a debug line costs nothing any more', () => {
  assert.equal(
    dropDebugLines('  _debugLog(f());\n// _debugLog(g())'),
    '  false && _debugLog(f());\n// _debugLog(g())',
  );
});

test('in the glue of a real component nothing polls for what the other side does', async () => {
  const component = await readFile(join(fixtures, 'rust-p3', 'rust-p3.wasm'));
  const { glue, imports, exports } = await transpileComponent(component, asyncImports, 'rust-p3');
  assert.doesNotMatch(glue, /let waitInterval/);
  assert.match(glue, /await _pendingEvent\(this\)/);
  assert.match(glue, /pendingValues\.takeBytes\(count\)/);
  // Both generations of one interface, each under its own name.
  for (const name of ['wasi:cli/environment', 'wasi:cli/environment@0.3.0', 'wasi:http/types@0.3.0'])
    assert.ok(imports.includes(name), name);
  assert.ok(exports.includes('wasi:http/handler@0.3.0'));
});
