import { hostMismatch, trap } from './trap.ts';

export function number(value: unknown): number {
  return typeof value === 'number' ? value : hostMismatch('a number', value);
}

export function bigint(value: unknown): bigint {
  return typeof value === 'bigint' ? value : hostMismatch('a bigint', value);
}

/** A Unicode scalar value as text. Traps on surrogates and on what lies above U+10FFFF. */
export function charOf(code: number): string {
  if (code >= 0x11_0000 || (code >= 0xd800 && code <= 0xdfff)) trap(`${code} is no character`);
  return String.fromCodePoint(code);
}

export function codeOf(value: unknown): number {
  const code = typeof value === 'string' ? value.codePointAt(0) : undefined;
  if (code === undefined || (code >= 0xd800 && code <= 0xdfff)) return hostMismatch('a character', value);
  return code;
}

const scratch = new DataView(new ArrayBuffer(8));

/** The same bits as another type: how variants pass payloads of different types through one parameter. */
export function i32FromF32(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getInt32(0);
}

export function f32FromI32(bits: number): number {
  scratch.setInt32(0, bits);
  return scratch.getFloat32(0);
}

export function i64FromF64(value: number): bigint {
  scratch.setFloat64(0, value);
  return scratch.getBigInt64(0);
}

export function f64FromI64(bits: bigint): number {
  scratch.setBigInt64(0, bits);
  return scratch.getFloat64(0);
}
