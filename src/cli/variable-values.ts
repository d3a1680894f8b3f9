import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type DocumentOrigin, Table } from '../app/manifest-table.ts';
import { parseToml } from '../app/manifest-toml.ts';
import { ShimError } from '../error.ts';
import { parseAssignment } from './assignment.ts';

/** Largest file that `--variable` reads (bytes). */
export const maxVariableFileBytes = 1024 * 1024;

/**
 * The values of `--variable`, in order: `NAME=VALUE`, `NAME=@FILE` (the file's whole text), `@FILE.json` and
 * `@FILE.toml` (a value for each key). Later ones win. Throws `invalid-argument` or `not-found`; no message shows a
 * value.
 */
export async function readVariables(
  flags: readonly string[],
  cwd: string,
): Promise<readonly (readonly [name: string, value: string])[]> {
  const values = new Map<string, string>();
  for (const flag of flags) {
    if (flag.startsWith('@')) {
      for (const [name, value] of await readTable(flag.slice(1), cwd)) values.set(name, value);
      continue;
    }
    const [name, value] = parseAssignment(flag, 'variable');
    values.set(name, value.startsWith('@') ? await readText(value.slice(1), cwd) : value);
  }
  return [...values];
}

async function readTable(file: string, cwd: string): Promise<readonly (readonly [string, string])[]> {
  const origin = { where: `variables file "${file}"`, code: 'invalid-argument' } as const;
  if (file.endsWith('.toml')) return entries(parseToml(await readText(file, cwd), origin));
  if (file.endsWith('.json')) return entries(parseJson(await readText(file, cwd), origin));
  throw new ShimError(
    'invalid-argument',
    `${origin.where} is neither .json nor .toml: write --variable NAME=@${file} to give one variable its text`,
  );
}

function parseJson(text: string, origin: DocumentOrigin): Table {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message quotes the document, which may hold secrets.
    throw new ShimError(origin.code, `${origin.where} is not valid JSON`);
  }
  return Table.of(value, '', origin);
}

function entries(table: Table): readonly (readonly [string, string])[] {
  return table.keys().map((name) => {
    const value = table.raw(name);
    if (typeof value === 'string') return [name, value];
    if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean')
      return [name, String(value)];
    throw table.error(name, 'must be a string, a number or a boolean');
  });
}

async function readText(file: string, cwd: string): Promise<string> {
  const path = resolve(cwd, file);
  try {
    await using handle = await open(path);
    const buffer = Buffer.alloc(maxVariableFileBytes + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) break;
    }
    if (length <= maxVariableFileBytes) return buffer.toString('utf8', 0, length);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown';
    throw new ShimError(
      'not-found',
      `variables file "${path}" cannot be read (${code}): name an existing file`,
      { cause },
    );
  }
  throw new ShimError(
    'invalid-argument',
    `variables file "${path}" has more than the ${maxVariableFileBytes} bytes allowed`,
  );
}
