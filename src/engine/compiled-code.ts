import { ShimError } from '../error.ts';
import { findInstallation } from './installation.ts';

/** What `compiled-code.node` does. */
type Addon = {
  readonly serialize: (module: WebAssembly.Module) => Uint8Array;
  readonly deserialize: (module: Uint8Array, code: Uint8Array) => WebAssembly.Module | undefined;
};

/**
 * Takes the machine code of modules out of V8, and makes modules that have it from the start. Such code is run as it is:
 * only whoever could have run any code in this process may bring it.
 */
export class CompiledCode {
  readonly #addon: Addon;

  /** Throws `failed-precondition` when the addon cannot be loaded. */
  constructor(library = findInstallation().compiledCode) {
    const holder: { exports: unknown } = { exports: {} };
    try {
      process.dlopen(holder, library);
    } catch (cause) {
      throw new ShimError(
        'failed-precondition',
        `"${library}" cannot be loaded, so compiled code can be neither kept nor used: install this version whole`,
        { cause },
      );
    }
    this.#addon = holder.exports as Addon;
  }

  /** The code of the functions of a module that V8 has optimized until now; no bytes when there are none. */
  of(module: WebAssembly.Module): Uint8Array {
    return this.#addon.serialize(module);
  }

  /**
   * The module of these bytes with such code; undefined when V8 does not take it: it was made by another version of V8,
   * with other flags or for another processor. Functions without code are compiled when they are called, as ever. Not
   * checked is that the code is that of the module.
   */
  moduleWith(bytes: Uint8Array, code: Uint8Array): WebAssembly.Module | undefined {
    return this.#addon.deserialize(bytes, code);
  }
}
