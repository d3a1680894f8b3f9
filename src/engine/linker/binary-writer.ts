/** An unsigned LEB128 number. */
export function leb(value: number): readonly number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest > 0);
  return bytes;
}

/** A number that is not negative as a signed LEB128 one. */
export function signedLeb(value: number): readonly number[] {
  const bytes = [...leb(value)];
  const last = bytes.pop() ?? 0;
  return (last & 0x40) === 0 ? [...bytes, last] : [...bytes, last | 0x80, 0];
}

/** A name: its length in bytes, then UTF-8. */
export function name(text: string): readonly number[] {
  const bytes = Buffer.from(text);
  return [...leb(bytes.length), ...bytes];
}

/** A section of a core module. */
export function section(id: number, contents: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.from([id, ...leb(contents.length)]), contents]);
}
