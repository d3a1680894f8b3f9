import type { CanonContext } from './canon-context.ts';
import { hostMismatch, trap } from './trap.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Below this many bytes a loop is faster than a call into the runtime. */
const shortBytes = 48;

/** Reads a string. Traps when it is not UTF-8 or not in memory. */
export function loadString(cx: CanonContext, pointer: number, length: number): string {
  if (length === 0) return '';
  cx.check(pointer, length, 1);
  cx.charge(length);
  const { bytes } = cx;
  if (length <= shortBytes) {
    let any = 0;
    for (let index = pointer; index < pointer + length; index++) any |= bytes[index] ?? 0;
    if (any < 0x80) return cx.text.toString('latin1', pointer, pointer + length);
  }
  try {
    return decoder.decode(bytes.subarray(pointer, pointer + length));
  } catch {
    trap('a string is not UTF-8');
  }
}

/** Writes a string into memory that the guest allocates; the result is its pointer and, in `cx.storedLength`, its length. */
export function storeString(cx: CanonContext, value: unknown): number {
  if (typeof value !== 'string') hostMismatch('a string', value);
  if (value.length === 0) {
    cx.storedLength = 0;
    return 1;
  }
  if (value.length <= shortBytes) {
    let any = 0;
    for (let index = 0; index < value.length; index++) any |= value.charCodeAt(index);
    if (any < 0x80) {
      const pointer = cx.allocate(value.length, 1);
      const { bytes } = cx;
      for (let index = 0; index < value.length; index++) bytes[pointer + index] = value.charCodeAt(index);
      cx.storedLength = value.length;
      return pointer;
    }
  }
  const length = Buffer.byteLength(value, 'utf8');
  const pointer = cx.allocate(length, 1);
  cx.text.write(value, pointer, length, 'utf8');
  cx.storedLength = length;
  return pointer;
}
