/**
 * Text of guests and of the network as a terminal may show it: control characters, among them the escape that begins
 * every terminal sequence, and the C1 range are shown as `\xNN`; newlines and tabs stay (threats.md 24).
 */
export function visibleText(text: string): string {
  let result = '';
  let start = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (!isControl(code) || code === 0x0a || code === 0x09) continue;
    const next = text.charCodeAt(index + 1);
    result += text.slice(start, index);
    // What a program for terminals writes at a line's end is no surprise in one.
    if (!(code === 0x0d && next === 0x0a)) result += `\\x${code.toString(16).padStart(2, '0')}`;
    start = index + 1;
  }
  return start === 0 ? text : result + text.slice(start);
}

function isControl(code: number): boolean {
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

/** What a raw terminal needs for a new line. */
export function rawLines(text: string): string {
  return text.replaceAll('\n', '\r\n');
}
