/** Longest value of one field in a line, in UTF-16 code units; longer ones are cut. */
export const maxFieldLength = 4096;

/** A log record: pino's JSON, parsed. */
export type LogRecord = ReadonlyMap<string, unknown>;

/** Fields that lead every line, in this order; the message comes last. */
const leading = ['time', 'level', 'instance', 'pod'];

/** A record as one line of `name=value` pairs, the form containerd's own log has; with the newline. */
export function formatLogLine(record: LogRecord): string {
  const names = [...record.keys()].filter((name) => !leading.includes(name) && name !== 'msg');
  const pairs: string[] = [];
  for (const name of [...leading, ...names, 'msg']) {
    const value = record.get(name);
    if (value !== undefined) pairs.push(`${name}=${formatValue(name, value)}`);
  }
  return `${pairs.join(' ')}\n`;
}

function formatValue(name: string, value: unknown): string {
  const text = textOf(value);
  const cut = text.length > maxFieldLength ? `${text.slice(0, maxFieldLength)}…` : text;
  const bare = name !== 'time' && name !== 'msg' && /^[\w./:@+-]+$/.test(cut);
  // JSON quoting also escapes line breaks and control characters: one record stays one line.
  return bare ? cut : JSON.stringify(cut);
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'object' && value !== null && 'message' in value) return String(value.message);
  return JSON.stringify(value) ?? String(value);
}
