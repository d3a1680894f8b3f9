import { copyOfRange, freeHandedOver } from '../../large-bytes.ts';
import { type CanonContext, listItemCharge } from './canon-context.ts';
import { hostMismatch } from './trap.ts';
import type { ValueType } from './value-type.ts';

type TypedArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

type TypedArrayConstructor = { new (buffer: ArrayBuffer): TypedArray };

/** Lists of these become typed arrays. */
const typedArrays: ReadonlyMap<ValueType['kind'], TypedArrayConstructor> = new Map<
  ValueType['kind'],
  TypedArrayConstructor
>([
  ['s8', Int8Array],
  ['u8', Uint8Array],
  ['s16', Int16Array],
  ['u16', Uint16Array],
  ['s32', Int32Array],
  ['u32', Uint32Array],
  ['s64', BigInt64Array],
  ['u64', BigUint64Array],
  ['f32', Float32Array],
  ['f64', Float64Array],
]);

type ItemCodec = {
  readonly size: number;
  readonly align: number;
  readonly load: (cx: CanonContext, pointer: number) => unknown;
  readonly store: (cx: CanonContext, pointer: number, value: unknown) => void;
};

export type ListCodec = {
  readonly load: (cx: CanonContext, pointer: number, length: number) => unknown;
  /** Returns the pointer; the number of items is in `cx.storedLength`. */
  readonly store: (cx: CanonContext, value: unknown) => number;
};

/** How lists of one item type are read and written. */
export function listCodec(kind: ValueType['kind'], item: ItemCodec): ListCodec {
  const array = typedArrays.get(kind);
  return array === undefined ? generalList(item) : numberList(array, item);
}

function generalList({ size, align, load, store }: ItemCodec): ListCodec {
  return {
    load: (cx, pointer, length) => {
      if (length === 0) return [];
      cx.check(pointer, length * size, align);
      cx.charge(length * listItemCharge);
      const items: unknown[] = [];
      for (let index = 0; index < length; index++) items.push(load(cx, pointer + index * size));
      return items;
    },
    store: (cx, value) => {
      const items = arrayLike(value);
      const { length } = items;
      if (length === 0) return emptyList(cx, align);
      const pointer = cx.allocate(length * size, align);
      for (let index = 0; index < length; index++) store(cx, pointer + index * size, items[index]);
      cx.storedLength = length;
      return pointer;
    },
  };
}

function numberList(array: TypedArrayConstructor, { size, align, store }: ItemCodec): ListCodec {
  return {
    load: (cx, pointer, length) => {
      if (length === 0) return new array(new ArrayBuffer(0));
      cx.check(pointer, length * size, align);
      cx.charge(length * size);
      const copy = copyOfRange(cx.bytes, pointer, length * size);
      return array === Uint8Array ? copy : new array(copy.buffer);
    },
    store: (cx, value) => {
      const items = arrayLike(value);
      const { length } = items;
      if (length === 0) return emptyList(cx, align);
      const pointer = cx.allocate(length * size, align);
      if (items instanceof array) {
        const { buffer, byteOffset, byteLength } = items as TypedArray;
        // A view of the guest's own memory loses its bytes when the allocator grows that memory.
        if (byteLength !== length * size) hostMismatch('a list outside of the guest', value);
        if (items instanceof Uint8Array) {
          cx.bytes.set(items, pointer);
          freeHandedOver(items);
        } else cx.bytes.set(new Uint8Array(buffer, byteOffset, byteLength), pointer);
      } else {
        for (let index = 0; index < length; index++) store(cx, pointer + index * size, items[index]);
      }
      cx.storedLength = length;
      return pointer;
    },
  };
}

/** A pointer that is aligned and not null, as languages expect even of nothing. */
function emptyList(cx: CanonContext, align: number): number {
  cx.storedLength = 0;
  return align;
}

function arrayLike(value: unknown): ArrayLike<unknown> {
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && 'length' in value))
    return value as unknown as ArrayLike<unknown>;
  return hostMismatch('a list', value);
}
