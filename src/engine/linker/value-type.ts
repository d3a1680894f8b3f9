import { ShimError } from '../../error.ts';

/** Types without parts, named as in WIT. */
const primitives = [
  'bool',
  's8',
  'u8',
  's16',
  'u16',
  's32',
  'u32',
  's64',
  'u64',
  'f32',
  'f64',
  'char',
  'string',
] as const;

export type Primitive = (typeof primitives)[number];

/** A value type of the component model. Parts are indexes into the table that holds it, always smaller than its own. */
export type ValueType =
  | { readonly kind: Primitive }
  | { readonly kind: 'record'; readonly fields: readonly (readonly [name: string, type: number])[] }
  | { readonly kind: 'tuple'; readonly types: readonly number[] }
  | { readonly kind: 'list'; readonly element: number }
  | { readonly kind: 'variant'; readonly cases: readonly (readonly [name: string, type: number | null])[] }
  | { readonly kind: 'enum'; readonly names: readonly string[] }
  | { readonly kind: 'flags'; readonly names: readonly string[] }
  | { readonly kind: 'option'; readonly some: number }
  | { readonly kind: 'result'; readonly ok: number | null; readonly err: number | null }
  | { readonly kind: 'own' | 'borrow'; readonly resource: number };

/** A function's type: parameters in order and at most one result. */
export type FunctionType = {
  readonly params: readonly (readonly [name: string, type: number])[];
  readonly result: number | null;
};

/** Levels of types inside types; real interfaces have fewer than ten. */
export const maxTypeDepth = 64;

/** Distinct types of one component; a JavaScript engine guest has about 200. */
export const maxTypes = 100_000;

/** The parts of a type. */
export function partsOf(type: ValueType): readonly number[] {
  switch (type.kind) {
    case 'record':
      return type.fields.map(([, part]) => part);
    case 'tuple':
      return type.types;
    case 'list':
      return [type.element];
    case 'variant':
      return type.cases.flatMap(([, part]) => (part === null ? [] : [part]));
    case 'option':
      return [type.some];
    case 'result':
      return [type.ok, type.err].filter((part) => part !== null);
    default:
      return [];
  }
}

/** Types by index, each distinct one once. */
export class TypeTable {
  readonly types: ValueType[] = [];
  readonly #indexes = new Map<string, number>();
  readonly #depths: number[] = [];

  /** The index of a type. Throws `unsupported` beyond `maxTypes` and `maxTypeDepth`. */
  intern(type: ValueType): number {
    const key = JSON.stringify(type);
    const known = this.#indexes.get(key);
    if (known !== undefined) return known;
    const depth = 1 + partsOf(type).reduce((most, part) => Math.max(most, this.#depths[part] ?? 0), 0);
    if (depth > maxTypeDepth)
      throw new ShimError('unsupported', `types are nested deeper than ${maxTypeDepth} levels`);
    if (this.types.length >= maxTypes)
      throw new ShimError('unsupported', `it has more than ${maxTypes} types`);
    this.#indexes.set(key, this.types.length);
    this.#depths.push(depth);
    return this.types.push(type) - 1;
  }
}
