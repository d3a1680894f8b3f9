import { ShimError } from '../error.ts';
import { quoted } from './manifest-key.ts';
import { type DocumentOrigin, maxDocumentDepth } from './manifest-table.ts';

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;

type Frame = { readonly keys: Set<string> | undefined; expectKey: boolean };

/** Index of the closing quote of the string that opens at `start`; the text's end if it is not closed. */
function endOfString(text: string, start: number): number {
  let index = start + 1;
  for (; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === backslash) index++;
    else if (code === quote) break;
  }
  return index;
}

/**
 * Parses untrusted JSON text: UTF-8 only, at most `maxBytes`, nesting at most `maxDepth`, no key twice in one object.
 * Everything but the syntax is checked in one pass before anything is built. Errors carry the origin's code.
 */
export function parseBoundedJson(
  bytes: Uint8Array,
  origin: DocumentOrigin,
  limits: { readonly maxBytes: number; readonly maxDepth?: number },
): unknown {
  const maxDepth = limits.maxDepth ?? maxDocumentDepth;
  const fail = (text: string, cause?: unknown): ShimError =>
    new ShimError(origin.code, `${origin.where}: ${text}`, { cause });
  if (bytes.byteLength > limits.maxBytes) {
    throw fail(`the document has ${bytes.byteLength} bytes, more than the ${limits.maxBytes} allowed`);
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fail('the document is not UTF-8 text', cause);
  }
  const stack: Frame[] = [];
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    const top = stack.at(-1);
    if (code === quote) {
      const end = endOfString(text, index);
      if (top?.keys !== undefined && top.expectKey) {
        const key = decodeKey(text.slice(index, end + 1));
        if (key !== undefined && top.keys.has(key))
          throw fail(`the key ${quoted(key)} occurs twice in one object`);
        if (key !== undefined) top.keys.add(key);
      }
      index = end;
    } else if (code === 0x7b || code === 0x5b) {
      if (stack.length >= maxDepth) throw fail(`the document is nested deeper than ${maxDepth} levels`);
      stack.push({ keys: code === 0x7b ? new Set() : undefined, expectKey: true });
    } else if (code === 0x7d || code === 0x5d) stack.pop();
    else if (code === comma && top !== undefined) top.expectKey = true;
    else if (code === colon && top !== undefined) top.expectKey = false;
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw fail('the document is not valid JSON', cause);
  }
}

/** The key a string token stands for; undefined if the token is malformed (the parser says so afterwards). */
function decodeKey(token: string): string | undefined {
  if (!token.includes('\\')) return token.slice(1, -1);
  try {
    const value: unknown = JSON.parse(token);
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
