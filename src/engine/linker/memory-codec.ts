import type { CanonContext } from './canon-context.ts';
import { lowerCamel } from './host-names.ts';
import { discriminantBytes, type Layouts } from './layout.ts';
import { type ListCodec, listCodec } from './lists.ts';
import { bigint, charOf, codeOf, number } from './numbers.ts';
import type { ResourcePlan } from './plan.ts';
import { type ResourceCodec, resourceCodec } from './resource-values.ts';
import { loadString, storeString } from './strings.ts';
import { hostMismatch, trap } from './trap.ts';
import type { ValueType } from './value-type.ts';

/** How values of one type are read from a guest's memory and written to it. */
export type MemoryCodec = {
  readonly size: number;
  readonly align: number;
  readonly load: (cx: CanonContext, pointer: number) => unknown;
  readonly store: (cx: CanonContext, pointer: number, value: unknown) => void;
};

type Scalar = Pick<MemoryCodec, 'load' | 'store'>;

/** A value in JavaScript's form of a variant, and back: what differs between variants, enums, options and results. */
export type VariantShape = {
  readonly cases: readonly (number | null)[];
  /** Whether values carry their payload as `val`, even one that is not there. */
  readonly make: (index: number, payload: unknown) => unknown;
  readonly caseOf: (value: unknown) => number;
  readonly payloadOf: (value: unknown, index: number) => unknown;
};

/** Codecs of the types of one plan, each made once. The canonical ABI's `load` and `store` as closures. */
export class MemoryCodecs {
  readonly layouts: Layouts;
  readonly #resources: readonly ResourcePlan[];
  readonly #codecs = new Map<number, MemoryCodec>();
  readonly #lists = new Map<number, ListCodec>();
  readonly #shapes = new Map<number, VariantShape>();

  constructor(layouts: Layouts, resources: readonly ResourcePlan[]) {
    this.layouts = layouts;
    this.#resources = resources;
  }

  of(index: number): MemoryCodec {
    return memo(this.#codecs, index, () => {
      const { size, align } = this.layouts.of(index);
      return { size, align, ...this.#scalar(index, this.layouts.type(index)) };
    });
  }

  list(element: number): ListCodec {
    return memo(this.#lists, element, () => listCodec(this.layouts.type(element).kind, this.of(element)));
  }

  resource(kind: 'own' | 'borrow', resource: number): ResourceCodec {
    const plan = this.#resources[resource];
    if (plan === undefined) throw new RangeError(`the link plan has no resource ${resource}`);
    return resourceCodec(kind, resource, plan);
  }

  /** Whether a resource is the host's: its handles stand for host objects. */
  isHosts(resource: number): boolean {
    return this.#resources[resource]?.kind === 'imported';
  }

  /** A record or tuple in a row: parameters that are passed through memory. */
  sequence(parts: readonly number[]): MemoryCodec {
    const { size, align, offsets } = this.layouts.sequence(parts);
    return {
      size,
      align,
      ...tupleCodec(
        parts.map((part) => this.of(part)),
        offsets,
      ),
    };
  }

  shape(index: number): VariantShape {
    return memo(this.#shapes, index, () => this.#shapeOf(this.layouts.type(index)));
  }

  #scalar(index: number, type: ValueType): Scalar {
    switch (type.kind) {
      case 'bool':
        return {
          load: (cx, pointer) => cx.view.getUint8(pointer) !== 0,
          store: (cx, pointer, value) => cx.view.setUint8(pointer, value ? 1 : 0),
        };
      case 's8':
        return {
          load: (cx, pointer) => cx.view.getInt8(pointer),
          store: (cx, pointer, value) => cx.view.setInt8(pointer, number(value)),
        };
      case 'u8':
        return {
          load: (cx, pointer) => cx.view.getUint8(pointer),
          store: (cx, pointer, value) => cx.view.setUint8(pointer, number(value)),
        };
      case 's16':
        return {
          load: (cx, pointer) => cx.view.getInt16(pointer, true),
          store: (cx, pointer, value) => cx.view.setInt16(pointer, number(value), true),
        };
      case 'u16':
        return {
          load: (cx, pointer) => cx.view.getUint16(pointer, true),
          store: (cx, pointer, value) => cx.view.setUint16(pointer, number(value), true),
        };
      case 's32':
        return {
          load: (cx, pointer) => cx.view.getInt32(pointer, true),
          store: (cx, pointer, value) => cx.view.setInt32(pointer, number(value), true),
        };
      case 'u32':
        return {
          load: (cx, pointer) => cx.view.getUint32(pointer, true),
          store: (cx, pointer, value) => cx.view.setUint32(pointer, number(value), true),
        };
      case 's64':
        return {
          load: (cx, pointer) => cx.view.getBigInt64(pointer, true),
          store: (cx, pointer, value) => cx.view.setBigInt64(pointer, bigint(value), true),
        };
      case 'u64':
        return {
          load: (cx, pointer) => cx.view.getBigUint64(pointer, true),
          store: (cx, pointer, value) => cx.view.setBigUint64(pointer, bigint(value), true),
        };
      case 'f32':
        return {
          load: (cx, pointer) => cx.view.getFloat32(pointer, true),
          store: (cx, pointer, value) => cx.view.setFloat32(pointer, number(value), true),
        };
      case 'f64':
        return {
          load: (cx, pointer) => cx.view.getFloat64(pointer, true),
          store: (cx, pointer, value) => cx.view.setFloat64(pointer, number(value), true),
        };
      case 'char':
        return {
          load: (cx, pointer) => charOf(cx.view.getUint32(pointer, true)),
          store: (cx, pointer, value) => cx.view.setUint32(pointer, codeOf(value), true),
        };
      case 'string':
        return {
          load: (cx, pointer) =>
            loadString(cx, cx.view.getUint32(pointer, true), cx.view.getUint32(pointer + 4, true)),
          store: (cx, pointer, value) => storePair(cx, pointer, storeString(cx, value)),
        };
      case 'list': {
        const { load, store } = this.list(type.element);
        return {
          load: (cx, pointer) =>
            load(cx, cx.view.getUint32(pointer, true), cx.view.getUint32(pointer + 4, true)),
          store: (cx, pointer, value) => storePair(cx, pointer, store(cx, value)),
        };
      }
      case 'own':
      case 'borrow': {
        const { lift, lower } = this.resource(type.kind, type.resource);
        return {
          load: (cx, pointer) => lift(cx, cx.view.getUint32(pointer, true)),
          store: (cx, pointer, value) => cx.view.setUint32(pointer, lower(cx, value), true),
        };
      }
      case 'flags':
        return flagsInMemory(type.names, this.layouts.of(index).size);
      case 'tuple': {
        const { offsets } = this.layouts.sequence(type.types);
        return tupleCodec(
          type.types.map((part) => this.of(part)),
          offsets,
        );
      }
      case 'record': {
        const parts = type.fields.map(([, part]) => part);
        const { offsets } = this.layouts.sequence(parts);
        return recordCodec(
          type.fields.map(([name]) => name),
          parts.map((part) => this.of(part)),
          offsets,
        );
      }
      case 'variant':
      case 'enum':
      case 'option':
      case 'result':
        return this.#variant(this.shape(index));
      default:
        return type satisfies never;
    }
  }

  #variant({ cases, make, caseOf, payloadOf }: VariantShape): Scalar {
    const { payloadOffset } = this.layouts.variant(cases);
    const payloads = cases.map((part) => (part === null ? undefined : this.of(part)));
    const bytes = discriminantBytes(cases.length);
    return {
      load: (cx, pointer) => {
        const index = loadDiscriminant(cx, pointer, bytes);
        if (index >= payloads.length) trap(`a variant has no case ${index}`);
        return make(index, payloads[index]?.load(cx, pointer + payloadOffset));
      },
      store: (cx, pointer, value) => {
        const index = caseOf(value);
        storeDiscriminant(cx, pointer, bytes, index);
        payloads[index]?.store(cx, pointer + payloadOffset, payloadOf(value, index));
      },
    };
  }

  #shapeOf(type: ValueType): VariantShape {
    switch (type.kind) {
      case 'enum':
        return enumShape(type.names);
      case 'variant':
        return taggedShape(type.cases, false);
      case 'result':
        return taggedShape(
          [
            ['ok', type.ok],
            ['err', type.err],
          ],
          true,
        );
      case 'option':
        return this.#isNullable(type.some)
          ? taggedShape(
              [
                ['none', null],
                ['some', type.some],
              ],
              false,
            )
          : nullableShape(type.some);
      default:
        throw new RangeError(`"${type.kind}" is not laid out as a variant`);
    }
  }

  /** Whether `undefined` is a value of the type, so that an option around it has to be spelt out. */
  #isNullable(index: number): boolean {
    const type = this.layouts.type(index);
    return type.kind === 'option' && !this.#isNullable(type.some);
  }
}

function memo<T>(known: Map<number, T>, index: number, make: () => T): T {
  const before = known.get(index);
  if (before !== undefined) return before;
  const made = make();
  known.set(index, made);
  return made;
}

function storePair(cx: CanonContext, pointer: number, inner: number): void {
  const length = cx.storedLength;
  cx.view.setUint32(pointer, inner, true);
  cx.view.setUint32(pointer + 4, length, true);
}

function loadDiscriminant(cx: CanonContext, pointer: number, bytes: 1 | 2 | 4): number {
  if (bytes === 1) return cx.view.getUint8(pointer);
  return bytes === 2 ? cx.view.getUint16(pointer, true) : cx.view.getUint32(pointer, true);
}

export function storeDiscriminant(cx: CanonContext, pointer: number, bytes: 1 | 2 | 4, index: number): void {
  if (bytes === 1) cx.view.setUint8(pointer, index);
  else if (bytes === 2) cx.view.setUint16(pointer, index, true);
  else cx.view.setUint32(pointer, index, true);
}

function tupleCodec(parts: readonly MemoryCodec[], offsets: readonly number[]): Scalar {
  return {
    load: (cx, pointer) => parts.map((part, index) => part.load(cx, pointer + (offsets[index] ?? 0))),
    store: (cx, pointer, value) => {
      if (!Array.isArray(value) || value.length !== parts.length) hostMismatch('a tuple', value);
      parts.forEach((part, index) => {
        part.store(cx, pointer + (offsets[index] ?? 0), value[index]);
      });
    },
  };
}

function recordCodec(
  labels: readonly string[],
  parts: readonly MemoryCodec[],
  offsets: readonly number[],
): Scalar {
  const names = labels.map(lowerCamel);
  return {
    load: (cx, pointer) => {
      const record: Record<string, unknown> = {};
      for (let index = 0; index < parts.length; index++)
        record[names[index] ?? ''] = parts[index]?.load(cx, pointer + (offsets[index] ?? 0));
      return record;
    },
    store: (cx, pointer, value) => {
      const record = recordOf(value);
      for (let index = 0; index < parts.length; index++)
        parts[index]?.store(cx, pointer + (offsets[index] ?? 0), record[names[index] ?? '']);
    },
  };
}

export function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null
    ? (value as Record<string, unknown>)
    : hostMismatch('a record', value);
}

/** Flags as one number, and back. */
export function flagsCodec(labels: readonly string[]): {
  readonly make: (bits: number) => unknown;
  readonly bitsOf: (value: unknown) => number;
} {
  const names = labels.map(lowerCamel);
  return {
    make: (bits) => {
      const flags: Record<string, boolean> = {};
      names.forEach((name, index) => {
        flags[name] = ((bits >>> index) & 1) === 1;
      });
      return flags;
    },
    bitsOf: (value) => {
      if (value === undefined || value === null) return 0;
      const flags = recordOf(value);
      return names.reduce((bits, name, index) => (flags[name] ? bits | (1 << index) : bits), 0);
    },
  };
}

function flagsInMemory(labels: readonly string[], size: number): Scalar {
  const { make, bitsOf } = flagsCodec(labels);
  const bytes = size === 1 ? 1 : size === 2 ? 2 : 4;
  return {
    load: (cx, pointer) => make(loadDiscriminant(cx, pointer, bytes)),
    store: (cx, pointer, value) => storeDiscriminant(cx, pointer, bytes, bitsOf(value)),
  };
}

function enumShape(names: readonly string[]): VariantShape {
  const indexes = new Map(names.map((name, index) => [name, index]));
  return {
    cases: names.map(() => null),
    make: (index) => names[index],
    caseOf: (value) => indexes.get(value as string) ?? hostMismatch('a case of an enum', value),
    payloadOf: () => undefined,
  };
}

function taggedShape(
  cases: readonly (readonly [name: string, type: number | null])[],
  alwaysVal: boolean,
): VariantShape {
  const indexes = new Map(cases.map(([name], index) => [name, index]));
  const makers = cases.map(([tag, part]) =>
    part === null && !alwaysVal ? () => ({ tag }) : (val: unknown) => ({ tag, val }),
  );
  return {
    cases: cases.map(([, part]) => part),
    make: (index, payload) => makers[index]?.(payload),
    caseOf: (value) =>
      indexes.get(recordOf(value).tag as string) ?? hostMismatch('a case of a variant', value),
    payloadOf: (value) => (value as { val?: unknown }).val,
  };
}

function nullableShape(some: number): VariantShape {
  return {
    cases: [null, some],
    make: (index, payload) => (index === 0 ? undefined : payload),
    caseOf: (value) => (value === undefined || value === null ? 0 : 1),
    payloadOf: (value) => value,
  };
}
