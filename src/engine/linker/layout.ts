import { ShimError } from '../../error.ts';
import type { FunctionType, ValueType } from './value-type.ts';

/** Core types that values are flattened to. */
export type FlatType = 'i32' | 'i64' | 'f32' | 'f64';

/** Flat parameters above which they go through memory (canonical ABI). */
export const maxFlatParams = 16;
/** Flat results above which they go through memory (canonical ABI). */
const maxFlatResults = 1;

/** Bytes one value may take outside of lists and strings; keeps arithmetic on sizes exact. */
export const maxValueBytes = 2 ** 28;

type MemoryLayout = { readonly size: number; readonly align: number };

function alignUp(offset: number, align: number): number {
  return Math.ceil(offset / align) * align;
}

/** Bytes of the discriminant of a variant with `count` cases. */
export function discriminantBytes(count: number): 1 | 2 | 4 {
  return count <= 2 ** 8 ? 1 : count <= 2 ** 16 ? 2 : 4;
}

/** The cases of everything that is laid out as a variant; undefined for other types. */
export function casesOf(type: ValueType): readonly (number | null)[] | undefined {
  switch (type.kind) {
    case 'variant':
      return type.cases.map(([, part]) => part);
    case 'enum':
      return type.names.map(() => null);
    case 'option':
      return [null, type.some];
    case 'result':
      return [type.ok, type.err];
    default:
      return undefined;
  }
}

function joined(left: FlatType, right: FlatType): FlatType {
  if (left === right) return left;
  return left !== 'i64' && left !== 'f64' && right !== 'i64' && right !== 'f64' ? 'i32' : 'i64';
}

/** Sizes, alignments and flat forms of the types of a table (canonical ABI), each computed once. */
export class Layouts {
  readonly types: readonly ValueType[];
  readonly #memory = new Map<number, MemoryLayout>();
  readonly #flat = new Map<number, readonly FlatType[] | undefined>();
  readonly #pointers = new Map<number, boolean>();

  constructor(types: readonly ValueType[]) {
    this.types = types;
  }

  type(index: number): ValueType {
    const type = this.types[index];
    if (type === undefined) throw new ShimError('internal', `the link plan has no type ${index}`);
    return type;
  }

  of(index: number): MemoryLayout {
    const known = this.#memory.get(index);
    if (known !== undefined) return known;
    const layout = this.#layoutOf(this.type(index));
    if (layout.size > maxValueBytes)
      throw new ShimError('unsupported', `a value takes more than ${maxValueBytes} bytes`);
    this.#memory.set(index, layout);
    return layout;
  }

  /** Offsets of the members of a record or tuple, and the whole. */
  sequence(parts: readonly number[]): MemoryLayout & { readonly offsets: readonly number[] } {
    let size = 0;
    let align = 1;
    const offsets: number[] = [];
    for (const part of parts) {
      const layout = this.of(part);
      size = alignUp(size, layout.align);
      offsets.push(size);
      size += layout.size;
      align = Math.max(align, layout.align);
    }
    return { size: alignUp(size, align), align, offsets };
  }

  /** Where the payload of a variant begins, and the whole. */
  variant(cases: readonly (number | null)[]): MemoryLayout & { readonly payloadOffset: number } {
    const discriminant = discriminantBytes(cases.length);
    const payloads = cases.filter((part) => part !== null).map((part) => this.of(part));
    const payloadAlign = Math.max(1, ...new Set(payloads.map((layout) => layout.align)));
    const payloadOffset = alignUp(discriminant, payloadAlign);
    const payloadSize = payloads.reduce((most, layout) => Math.max(most, layout.size), 0);
    const align = Math.max(discriminant, payloadAlign);
    return { size: alignUp(payloadOffset + payloadSize, align), align, payloadOffset };
  }

  /** The flat form, or undefined when it has more than `maxFlatParams` values. */
  flat(index: number): readonly FlatType[] | undefined {
    if (this.#flat.has(index)) return this.#flat.get(index);
    const flat = this.#flatOf(this.type(index));
    this.#flat.set(index, flat);
    return flat;
  }

  flatSequence(parts: readonly number[]): readonly FlatType[] | undefined {
    const flat: FlatType[] = [];
    for (const part of parts) {
      const more = this.flat(part);
      if (more === undefined || flat.length + more.length > maxFlatParams) return undefined;
      flat.push(...more);
    }
    return flat;
  }

  /** Whether values of the type point to memory of their own (strings and lists). */
  hasPointers(index: number): boolean {
    const known = this.#pointers.get(index);
    if (known !== undefined) return known;
    const type = this.type(index);
    const parts =
      type.kind === 'record'
        ? type.fields.map(([, part]) => part)
        : type.kind === 'tuple'
          ? type.types
          : (casesOf(type) ?? []).filter((part) => part !== null);
    const has =
      type.kind === 'string' || type.kind === 'list' || parts.some((part) => this.hasPointers(part));
    this.#pointers.set(index, has);
    return has;
  }

  /** How a function's parameters and result travel between core code and the host. */
  signature(type: FunctionType): {
    readonly params: readonly FlatType[] | undefined;
    readonly result: readonly FlatType[] | undefined;
  } {
    const result = type.result === null ? [] : this.flat(type.result);
    return {
      params: this.flatSequence(type.params.map(([, part]) => part)),
      result: result !== undefined && result.length > maxFlatResults ? undefined : result,
    };
  }

  #layoutOf(type: ValueType): MemoryLayout {
    switch (type.kind) {
      case 'bool':
      case 's8':
      case 'u8':
        return { size: 1, align: 1 };
      case 's16':
      case 'u16':
        return { size: 2, align: 2 };
      case 's32':
      case 'u32':
      case 'f32':
      case 'char':
      case 'own':
      case 'borrow':
        return { size: 4, align: 4 };
      case 's64':
      case 'u64':
      case 'f64':
        return { size: 8, align: 8 };
      case 'string':
      case 'list':
        return { size: 8, align: 4 };
      case 'flags': {
        const bytes = type.names.length <= 8 ? 1 : type.names.length <= 16 ? 2 : 4;
        return { size: bytes, align: bytes };
      }
      case 'record':
        return this.sequence(type.fields.map(([, part]) => part));
      case 'tuple':
        return this.sequence(type.types);
      case 'variant':
      case 'enum':
      case 'option':
      case 'result':
        return this.variant(casesOf(type) ?? []);
      default:
        return type satisfies never;
    }
  }

  #flatOf(type: ValueType): readonly FlatType[] | undefined {
    switch (type.kind) {
      case 's64':
      case 'u64':
        return ['i64'];
      case 'f32':
        return ['f32'];
      case 'f64':
        return ['f64'];
      case 'string':
      case 'list':
        return ['i32', 'i32'];
      case 'record':
        return this.flatSequence(type.fields.map(([, part]) => part));
      case 'tuple':
        return this.flatSequence(type.types);
      case 'variant':
      case 'option':
      case 'result':
        return this.#flatVariant(casesOf(type) ?? []);
      default:
        return ['i32'];
    }
  }

  #flatVariant(cases: readonly (number | null)[]): readonly FlatType[] | undefined {
    const payload: FlatType[] = [];
    for (const part of cases) {
      if (part === null) continue;
      const flat = this.flat(part);
      if (flat === undefined || flat.length >= maxFlatParams) return undefined;
      flat.forEach((kind, index) => {
        const before = payload[index];
        payload[index] = before === undefined ? kind : joined(before, kind);
      });
    }
    return ['i32', ...payload];
  }
}
