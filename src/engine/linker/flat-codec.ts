import type { CanonContext } from './canon-context.ts';
import { lowerCamel } from './host-names.ts';
import type { FlatType } from './layout.ts';
import { flagsCodec, type MemoryCodecs, recordOf } from './memory-codec.ts';
import { bigint, charOf, codeOf, f32FromI32, f64FromI64, i32FromF32, i64FromF64, number } from './numbers.ts';
import { loadString, storeString } from './strings.ts';
import { hostMismatch, trap } from './trap.ts';
import type { ValueType } from './value-type.ts';

export type FlatValue = number | bigint;

/** Reads a value from the flat parameters or results of core code. */
export type LiftFlat = (cx: CanonContext, flat: readonly FlatValue[]) => unknown;

/** Writes a value to its places among flat parameters or results, which are zero before. */
export type LowerFlat = (cx: CanonContext, value: unknown, flat: FlatValue[]) => void;

type FlatCodec = { readonly lift: LiftFlat; readonly lower: LowerFlat };

/**
 * Makes the codecs of one function's flat values. `flatTypes` are what core code sees at each place: a place that
 * variants share may be wider than what one case puts there (canonical ABI, `lift_flat` and `lower_flat`).
 */
export class FlatCodecs {
  readonly #memory: MemoryCodecs;
  readonly #flatTypes: readonly FlatType[];
  readonly #known = new Map<string, FlatCodec>();

  constructor(memory: MemoryCodecs, flatTypes: readonly FlatType[]) {
    this.#memory = memory;
    this.#flatTypes = flatTypes;
  }

  /** The codec of a type whose flat values begin at a place. */
  of(type: number, place: number): FlatCodec {
    const key = `${type}:${place}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const codec = this.#make(type, this.#memory.layouts.type(type), place);
    this.#known.set(key, codec);
    return codec;
  }

  /** Codecs of several types in a row. */
  sequence(types: readonly number[], first: number): FlatCodec[] {
    let place = first;
    return types.map((type) => {
      const codec = this.of(type, place);
      place += this.#memory.layouts.flat(type)?.length ?? 0;
      return codec;
    });
  }

  #make(index: number, type: ValueType, place: number): FlatCodec {
    const { get, set } = this.#i32(place);
    switch (type.kind) {
      case 'bool':
        return {
          lift: (_cx, flat) => get(flat) !== 0,
          lower: (_cx, value, flat) => set(flat, value ? 1 : 0),
        };
      case 's8':
        return integer(get, set, (value) => (value << 24) >> 24);
      case 'u8':
        return integer(get, set, (value) => value & 0xff);
      case 's16':
        return integer(get, set, (value) => (value << 16) >> 16);
      case 'u16':
        return integer(get, set, (value) => value & 0xffff);
      case 's32':
        return integer(get, set, (value) => value | 0);
      case 'u32':
        return integer(get, set, (value) => value >>> 0);
      case 's64':
        return {
          lift: (_cx, flat) => BigInt.asIntN(64, flat[place] as bigint),
          lower: (_cx, value, flat) => {
            flat[place] = BigInt.asIntN(64, bigint(value));
          },
        };
      case 'u64':
        return {
          lift: (_cx, flat) => BigInt.asUintN(64, flat[place] as bigint),
          lower: (_cx, value, flat) => {
            flat[place] = BigInt.asIntN(64, bigint(value));
          },
        };
      case 'f32':
        return this.#f32(place);
      case 'f64':
        return this.#f64(place);
      case 'char':
        return {
          lift: (_cx, flat) => charOf(get(flat) >>> 0),
          lower: (_cx, value, flat) => set(flat, codeOf(value)),
        };
      case 'string': {
        const length = this.#i32(place + 1);
        return {
          lift: (cx, flat) => loadString(cx, get(flat) >>> 0, length.get(flat) >>> 0),
          lower: (cx, value, flat) => {
            set(flat, storeString(cx, value));
            length.set(flat, cx.storedLength);
          },
        };
      }
      case 'list': {
        const length = this.#i32(place + 1);
        const { load, store } = this.#memory.list(type.element);
        return {
          lift: (cx, flat) => load(cx, get(flat) >>> 0, length.get(flat) >>> 0),
          lower: (cx, value, flat) => {
            set(flat, store(cx, value));
            length.set(flat, cx.storedLength);
          },
        };
      }
      case 'own':
      case 'borrow': {
        const { lift, lower } = this.#memory.resource(type.kind, type.resource);
        return {
          lift: (cx, flat) => lift(cx, get(flat)),
          lower: (cx, value, flat) => set(flat, lower(cx, value)),
        };
      }
      case 'flags': {
        const { make, bitsOf } = flagsCodec(type.names);
        return {
          lift: (_cx, flat) => make(get(flat)),
          lower: (_cx, value, flat) => set(flat, bitsOf(value)),
        };
      }
      case 'tuple':
        return tuple(this.sequence(type.types, place));
      case 'record':
        return record(
          type.fields.map(([name]) => lowerCamel(name)),
          this.sequence(
            type.fields.map(([, part]) => part),
            place,
          ),
        );
      case 'variant':
      case 'enum':
      case 'option':
      case 'result':
        return this.#variant(index, place);
      default:
        return type satisfies never;
    }
  }

  #variant(index: number, place: number): FlatCodec {
    const { cases, make, caseOf, payloadOf } = this.#memory.shape(index);
    const { get, set } = this.#i32(place);
    const payloads = cases.map((part) => (part === null ? undefined : this.of(part, place + 1)));
    return {
      lift: (cx, flat) => {
        const chosen = get(flat) >>> 0;
        if (chosen >= payloads.length) trap(`a variant has no case ${chosen}`);
        return make(chosen, payloads[chosen]?.lift(cx, flat));
      },
      lower: (cx, value, flat) => {
        const chosen = caseOf(value);
        set(flat, chosen);
        payloads[chosen]?.lower(cx, payloadOf(value, chosen), flat);
      },
    };
  }

  #i32(place: number): {
    readonly get: (flat: readonly FlatValue[]) => number;
    readonly set: (flat: FlatValue[], value: number) => void;
  } {
    if (this.#flatTypes[place] === 'i64') {
      return {
        get: (flat) => Number(BigInt.asIntN(32, flat[place] as bigint)),
        set: (flat, value) => {
          flat[place] = BigInt(value >>> 0);
        },
      };
    }
    return {
      get: (flat) => flat[place] as number,
      set: (flat, value) => {
        flat[place] = value;
      },
    };
  }

  #f32(place: number): FlatCodec {
    const { get, set } = this.#i32(place);
    if (this.#flatTypes[place] === 'f32') {
      return {
        lift: (_cx, flat) => flat[place],
        lower: (_cx, value, flat) => {
          flat[place] = number(value);
        },
      };
    }
    return {
      lift: (_cx, flat) => f32FromI32(get(flat)),
      lower: (_cx, value, flat) => set(flat, i32FromF32(number(value))),
    };
  }

  #f64(place: number): FlatCodec {
    if (this.#flatTypes[place] === 'f64') {
      return {
        lift: (_cx, flat) => flat[place],
        lower: (_cx, value, flat) => {
          flat[place] = number(value);
        },
      };
    }
    return {
      lift: (_cx, flat) => f64FromI64(flat[place] as bigint),
      lower: (_cx, value, flat) => {
        flat[place] = i64FromF64(number(value));
      },
    };
  }
}

function integer(
  get: (flat: readonly FlatValue[]) => number,
  set: (flat: FlatValue[], value: number) => void,
  fit: (value: number) => number,
): FlatCodec {
  return {
    lift: (_cx, flat) => fit(get(flat)),
    lower: (_cx, value, flat) => set(flat, fit(number(value))),
  };
}

function tuple(parts: readonly FlatCodec[]): FlatCodec {
  return {
    lift: (cx, flat) => parts.map((part) => part.lift(cx, flat)),
    lower: (cx, value, flat) => {
      if (!Array.isArray(value) || value.length !== parts.length) hostMismatch('a tuple', value);
      parts.forEach((part, index) => {
        part.lower(cx, value[index], flat);
      });
    },
  };
}

function record(names: readonly string[], parts: readonly FlatCodec[]): FlatCodec {
  return {
    lift: (cx, flat) => {
      const made: Record<string, unknown> = {};
      for (let index = 0; index < parts.length; index++)
        made[names[index] ?? ''] = parts[index]?.lift(cx, flat);
      return made;
    },
    lower: (cx, value, flat) => {
      const given = recordOf(value);
      for (let index = 0; index < parts.length; index++)
        parts[index]?.lower(cx, given[names[index] ?? ''], flat);
    },
  };
}

/** Flat values before anything is lowered: zero of each type. */
export function zeroes(types: readonly FlatType[]): FlatValue[] {
  const flat: FlatValue[] = [];
  for (const type of types) flat.push(type === 'i64' ? 0n : 0);
  return flat;
}
