/**
 * The Spin interfaces that the sample app `js-api` imports, as far as `jco serve` needs them to instantiate it: jco has
 * only WASI's. The benchmarked routes call none of them. For `--isolate-requests` they are added to the import object of
 * the WASI shim; in the default mode the generated module imports this one (`--jco-map`).
 */
import { WASIShim } from '@bytecodealliance/preview2-shim/instantiation';

/** `fermyon:spin/key-value` `store`. */
// biome-ignore lint/complexity/noStaticOnlyClass: a resource is a class to jco
export class Store {
  static open(name: string): never {
    throw new Error(`there is no store "${name}" here`);
  }
}

/** `fermyon:spin/variables` `get`. */
export function get(name: string): never {
  throw new Error(`there is no variable "${name}" here`);
}

type ImportObject = Record<string, unknown>;

const shim = WASIShim.prototype as unknown as { getImportObject(): ImportObject };
const getWasiImports = shim.getImportObject;
shim.getImportObject = function getImportObject(this: unknown): ImportObject {
  return {
    ...getWasiImports.call(this),
    'fermyon:spin/key-value': { Store },
    'fermyon:spin/variables': { get },
  };
};
