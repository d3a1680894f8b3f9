import { loadV8Calls, type V8Calls } from './v8-calls.ts';
import { countFunctions } from './wasm-binary.ts';

/** How much of a function V8 runs before it optimizes it, where nobody sets another budget. */
export const tieringBudget = 13_000_000;

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
   * Such code with V8's own budget for functions that are not optimized. V8 writes last what each function of the module has
   * left of its budget, four bytes each, which is close to nothing where code was learned with a small one: whoever takes
   * such code would optimize, beside its first requests, each function that nobody had called while it was learned.
   */
  withBudgets(module: WebAssembly.Module, code: Uint8Array): Uint8Array {
    if (code.length === 0) return code;
    const count = countFunctions(this.#calls.bytesOf(module), 'the module');
    const budgets = new Uint32Array(count).fill(tieringBudget);
    code.set(new Uint8Array(budgets.buffer), code.length - budgets.byteLength);
    return code;
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
