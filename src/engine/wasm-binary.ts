import { ShimError } from '../error.ts';

/** What a wasm source is, as far as lifting needs to know. */
export type WasmShape =
  | { readonly kind: 'component' }
  | { readonly kind: 'text' }
  | {
      readonly kind: 'module';
      /** Has `component-type*` custom sections: made by wit-bindgen, lifted with the reactor adapter. */
      readonly hasComponentType: boolean;
      readonly exports: ReadonlySet<string>;
    };

/** Exports read from a module before it is refused; real ones have a few hundred. */
export const maxExports = 100_000;

const magic = [0x00, 0x61, 0x73, 0x6d];
const customSection = 0;
const functionSection = 3;
const exportSection = 7;

/**
 * Tells component, core module and WAT text apart by their first bytes, and reads what lifting a module depends on.
 * Reads section headers only; throws `invalid-component` for bytes that are none of them or are cut off.
 */
export function inspectWasm(bytes: Uint8Array, where: string): WasmShape {
  const cursor = new Cursor(bytes, where);
  if (!magic.every((byte, index) => bytes[index] === byte)) {
    if (looksLikeText(bytes)) return { kind: 'text' };
    throw new ShimError(
      'invalid-component',
      `${where} is neither a WebAssembly component nor a module: it begins with ${hexHead(bytes)}, expected "00 61 73 6d"; check that the file was built and copied whole`,
    );
  }
  cursor.offset = 4;
  const [version = 0, versionHigh = 0, layer = 0, layerHigh = 0] = cursor.take(4);
  if (layer === 1 && layerHigh === 0) return { kind: 'component' };
  if (version !== 1 || versionHigh !== 0 || layer !== 0 || layerHigh !== 0)
    throw cursor.broken('the version field is not that of a module or a component');
  let hasComponentType = false;
  const exports = new Set<string>();
  for (const id of sections(cursor, bytes)) {
    if (id === customSection && cursor.name().startsWith('component-type')) hasComponentType = true;
    if (id === exportSection) readExports(cursor, exports);
  }
  return { kind: 'module', hasComponentType, exports };
}

/** How many functions a core module has of its own; `where` names it in errors, which are those of `inspectWasm`. */
export function countFunctions(bytes: Uint8Array, where: string): number {
  const cursor = new Cursor(bytes, where);
  cursor.offset = 8;
  for (const id of sections(cursor, bytes)) if (id === functionSection) return cursor.length();
  return 0;
}

/** The numbers of the sections from the cursor on; it stands at the content of each. */
function* sections(cursor: Cursor, bytes: Uint8Array): Generator<number> {
  while (cursor.offset < bytes.length) {
    const id = cursor.byte();
    const end = cursor.length() + cursor.offset;
    if (end > bytes.length) throw cursor.broken('a section is longer than the file');
    yield id;
    if (cursor.offset > end) throw cursor.broken('its content reaches beyond its section');
    cursor.offset = end;
  }
}

function readExports(cursor: Cursor, exports: Set<string>): void {
  const count = cursor.length();
  if (count > maxExports) throw cursor.broken(`the module has ${count} exports, the limit is ${maxExports}`);
  for (let index = 0; index < count; index++) {
    exports.add(cursor.name());
    cursor.byte();
    cursor.length();
  }
}

/** WAT begins with white space, comments, then `(module` or `(component`. */
function looksLikeText(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.subarray(0, 4096)).toString('latin1').trimStart();
  return head.startsWith('(') || head.startsWith(';;');
}

function hexHead(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'nothing (the file is empty)';
  return `"${Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, '0')).join(' ')}"`;
}

/** Reads LEB128 numbers and names with bounds checked. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #where: string;
  offset = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#where = where;
  }

  byte(): number {
    const byte = this.#bytes[this.offset];
    if (byte === undefined) throw this.broken('it ends in the middle of a section');
    this.offset += 1;
    return byte;
  }

  take(count: number): Uint8Array {
    const end = this.offset + count;
    if (end > this.#bytes.length) throw this.broken('it ends in the middle of a section');
    const taken = this.#bytes.subarray(this.offset, end);
    this.offset = end;
    return taken;
  }

  length(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw this.broken('a number has more than five bytes');
  }

  name(): string {
    return Buffer.from(this.take(this.length())).toString('utf8');
  }

  broken(why: string): ShimError {
    return new ShimError(
      'invalid-component',
      `${this.#where} is not a valid WebAssembly binary: ${why} (offset ${this.offset} of ${this.#bytes.length}); build it again`,
    );
  }
}
