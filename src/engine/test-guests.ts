import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { _setPreopens } from '@bytecodealliance/preview2-shim/filesystem';
import { findInstallation } from './installation.ts';
import { fixtures } from './test-engine.ts';

const interfaceName = 'wasi:http/types@0.2.0';

/** Calls that a guest in WAT needs to answer 200 with an empty body. */
const answerImports = `
  (import "${interfaceName}" "[constructor]fields" (func $fields (result i32)))
  (import "${interfaceName}" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "${interfaceName}" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))`;

const answerHandler = `
  (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)
    (call $set (local.get 1) (i32.const 0) (call $response (call $fields))
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))`;

const memory = `
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))`;

/** A preview 1 module whose `_initialize` prints a line, and which then answers every request with 200. */
export const initPrinter = `(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  ${answerImports}
  ${memory}
  (data (i32.const 16) "printed at start\\n")
  (func (export "_initialize")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 17))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  ${answerHandler})`;

/** A module that traps in `_initialize`. */
export const initTrap = `(module ${answerImports} ${memory}
  (func (export "_initialize") unreachable) ${answerHandler})`;

/** The tools read WIT from disk through the shim, which by itself shows them nothing of it. */
async function wasmTools(): Promise<typeof import('@bytecodealliance/jco-transpile/wasm-tools')> {
  // Typed as the virtual file system of a browser; Node's takes paths.
  (_setPreopens as (preopens: Record<string, string>) => void)({ '/': '/' });
  return import('@bytecodealliance/jco-transpile/wasm-tools');
}

/** A core module in WAT as the component of the `hello` world that wit-bindgen would have left for lifting. */
export async function coreModule(wat: string): Promise<Uint8Array> {
  const { componentEmbed, parse } = await wasmTools();
  return componentEmbed({
    binary: await parse(wat),
    witPath: join(fixtures, 'wit', 'http'),
    world: 'hello',
  });
}

/** The same, lifted. */
export async function component(wat: string): Promise<Uint8Array> {
  const { componentNew } = await wasmTools();
  const reactor = await readFile(findInstallation().adapters.reactor);
  return componentNew(await coreModule(wat), [['wasi_snapshot_preview1', reactor]]);
}
