/**
 * Length of the whole answer at the start of `bytes`, by its `content-length` or its last chunk; undefined while it is
 * incomplete. Throws for one whose status is not 200. For load, where a parser's cost would show.
 */
export function answerLength(bytes: Buffer): number | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd < 0) return undefined;
  const fields = bytes.toString('latin1', 0, headEnd);
  if (!fields.startsWith('HTTP/1.1 200 ')) throw new Error(`answered "${fields.split('\r\n')[0]}"`);
  const length = /^content-length: (\d+)$/im.exec(fields)?.[1];
  if (length !== undefined) {
    const whole = headEnd + 4 + Number(length);
    return bytes.length >= whole ? whole : undefined;
  }
  const last = bytes.indexOf('0\r\n\r\n', headEnd + 4);
  return last < 0 ? undefined : last + 5;
}
