import { parse, TomlError } from 'smol-toml';
import { ShimError } from '../error.ts';
import { type DocumentOrigin, maxDocumentDepth, Table } from './manifest-table.ts';

/** Largest TOML document (bytes of UTF-8) that is parsed. */
export const maxTomlBytes = 1024 * 1024;

/**
 * Parses a TOML document into its top table; integers are bigints, so that they stay apart from floats. A syntax error
 * names line and column but quotes nothing: documents may hold secrets.
 */
export function parseToml(text: string, origin: DocumentOrigin, maxBytes: number = maxTomlBytes): Table {
  const bytes = Buffer.byteLength(text);
  if (bytes > maxBytes) {
    const message = `${origin.where}: the document has ${bytes} bytes, more than the ${maxBytes} allowed`;
    throw new ShimError(origin.code, message);
  }
  try {
    const value: unknown = parse(text, { integersAsBigInt: true, maxDepth: maxDocumentDepth });
    return Table.of(value, '', origin);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw ShimError.from(cause, origin.code);
    const [reason = ''] = cause.message.split('\n');
    const message = `${origin.where}: line ${cause.line}, column ${cause.column}: ${reason.replace(/^Invalid TOML document: /, 'invalid TOML: ')}`;
    throw new ShimError(origin.code, message);
  }
}
