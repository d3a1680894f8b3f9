import { loadV8Calls, type V8Calls } from './v8-calls.ts';

/**
 * Takes the machine code of modules out of V8, and makes modules that have it from the start. Such code is run as it is:
 * only whoever could have run any code in this process may bring it.
 */
export class CompiledCode {
  readonly #calls: V8Calls;

  /** Throws `failed-precondition` when the addon cannot be loaded. */
  constructor(library?: string) {
    this.#calls = loadV8Calls(library);
  }

  /** The code of the functions of a module that V8 has optimized until now; no bytes when there are none. */
  of(module: WebAssembly.Module): Uint8Array {
    return this.#calls.serialize(module);
  }

  /**
   * The module of these bytes with such code; undefined when V8 does not take it: it was made by another version of V8,
   * with other flags or for another processor. Functions without code are compiled when they are called, as ever. Not
   * checked is that the code is that of the module.
   */
  moduleWith(bytes: Uint8Array, code: Uint8Array): WebAssembly.Module | undefined {
    return this.#calls.deserialize(bytes, code);
  }
}
