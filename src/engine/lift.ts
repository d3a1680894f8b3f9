import { readFile } from 'node:fs/promises';
import { ShimError } from '../error.ts';
import { inspectWasm } from './wasm-binary.ts';

/** Where the two preview 1 adapters lie. */
export type AdapterPaths = { readonly reactor: string; readonly command: string };

/** Exports of guests built against the interface Spin had before components (reference/spin.md 2.4, row 3). */
const oldSpinExports = ['handle-http-request', 'handle-redis-message'];

/**
 * Makes a component out of whatever a Spin app's `source` may be: a component stays as it is, a core module is lifted
 * with the preview 1 adapter its shape asks for, WAT is parsed first. `where` names the source in errors.
 * Throws `invalid-component` or, for guests of the interface before components, `unsupported`.
 */
export async function liftToComponent(
  bytes: Uint8Array,
  adapters: AdapterPaths,
  where: string,
): Promise<Uint8Array> {
  const shape = inspectWasm(bytes, where);
  switch (shape.kind) {
    case 'component':
      return bytes;
    case 'text': {
      const { parse } = await wasmTools();
      const parsed = await parse(Buffer.from(bytes).toString('utf8')).catch((error: unknown) => {
        throw new ShimError(
          'invalid-component',
          `${where} is not valid WebAssembly text: ${firstLine(error)}`,
          { cause: error },
        );
      });
      return liftToComponent(parsed, adapters, where);
    }
    case 'module': {
      if (oldSpinExports.some((name) => shape.exports.has(name))) {
        throw new ShimError(
          'unsupported',
          `${where} is a module for the interface Spin had before components (it exports "handle-http-request" or "handle-redis-message"), which this version does not run: build it with a current Spin SDK`,
        );
      }
      if (shape.hasComponentType) return encode(bytes, adapters.reactor, where);
      if (shape.exports.has('_start')) return encode(bytes, adapters.command, where);
      throw new ShimError(
        'invalid-component',
        `${where} is a core module without component type information and without "_start": build it as a component (target wasm32-wasip2, or wasm32-wasip1 with wit-bindgen)`,
      );
    }
  }
}

async function encode(bytes: Uint8Array, adapterPath: string, where: string): Promise<Uint8Array> {
  const { componentNew } = await wasmTools();
  const adapter = await readFile(adapterPath);
  try {
    return await componentNew(bytes, [['wasi_snapshot_preview1', adapter]]);
  } catch (error) {
    throw new ShimError('invalid-component', `${where} cannot be made a component: ${firstLine(error)}`, {
      cause: error,
    });
  }
}

/** Loaded only when a module has to be lifted: it costs some 50 ms and a thread. */
function wasmTools(): Promise<typeof import('@bytecodealliance/jco-transpile/wasm-tools')> {
  return import('@bytecodealliance/jco-transpile/wasm-tools');
}

/** The first line of what a tool threw; tools append a Rust backtrace. */
export function firstLine(error: unknown): string {
  const text =
    error instanceof Error
      ? error.message
      : typeof error === 'object'
        ? JSON.stringify(error)
        : String(error);
  return text.split('\n', 1)[0] ?? text;
}
