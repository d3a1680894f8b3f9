import { ShimError } from '../error.ts';
import { findInstallation } from './installation.ts';

/** What `v8-calls.node` does. */
export type V8Calls = {
  readonly serialize: (module: WebAssembly.Module) => Uint8Array;
  readonly bytesOf: (module: WebAssembly.Module) => Uint8Array;
  readonly deserialize: (module: Uint8Array, code: Uint8Array) => WebAssembly.Module | undefined;
  readonly refuseCodeFromStrings: () => void;
};

/** The addon, for the calling thread. Throws `failed-precondition` when it cannot be loaded. */
export function loadV8Calls(library = findInstallation().v8Calls): V8Calls {
  const holder: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(holder, library);
  } catch (cause) {
    throw new ShimError(
      'failed-precondition',
      `"${library}" cannot be loaded, without which no guest is run: install this version whole`,
      { cause },
    );
  }
  return holder.exports as V8Calls;
}

/**
 * From now on V8 makes no code of strings in this thread (`eval`, `new Function`), whoever asks. Not by a flag: V8 and Node
 * keep compiled forms of Node's own modules, and take none of them in a process that has a flag of V8's.
 */
export function refuseCodeFromStrings(): void {
  loadV8Calls().refuseCodeFromStrings();
}
