import type { FileGrant, FileGrants } from './locked-app.ts';
import { quoted } from './manifest-key.ts';
import { Table } from './manifest-table.ts';

/** Most entries of one `files` or `exclude_files` list. */
export const maxFileGrants = 1000;

/** Longest pattern or path (UTF-16 units). */
export const maxPatternLength = 4096;

/** Reads `files` and `exclude_files` of a component (spin.md 1.4); undefined if there are no files. */
export function parseFileGrants(component: Table): FileGrants | undefined {
  const include = component.list('files').map((item, index): FileGrant => {
    const key = `files[${index}]`;
    if (typeof item === 'string') {
      checkPattern(component, 'files', item);
      return { kind: 'pattern', pattern: item };
    }
    const table = Table.of(item, `${component.path}.${key}`, component.origin);
    table.rejectUnknown(['source', 'destination']);
    const source = table.string('source');
    const destination = table.string('destination');
    if (source === '' || source.includes('\0')) throw table.error('source', 'must be a path');
    if (destination.split('/').includes('..') || destination.includes('\0')) {
      throw table.error('destination', `must be a path without "..", not ${quoted(destination)}`);
    }
    return { kind: 'placement', source, destination };
  });
  const exclude = component.strings('exclude_files');
  for (const pattern of exclude) checkPattern(component, 'exclude_files', pattern);
  if (include.length > maxFileGrants || exclude.length > maxFileGrants) {
    throw component.error('files', `has more than ${maxFileGrants} entries`);
  }
  return include.length === 0 ? undefined : { include, exclude };
}

function checkPattern(component: Table, key: string, pattern: string): void {
  const fail = (text: string): Error => component.error(key, `lists ${quoted(pattern)}, which ${text}`);
  if (pattern === '' || pattern.includes('\0')) throw fail('is not a path');
  if (pattern.length > maxPatternLength) throw fail(`has more than ${maxPatternLength} characters`);
  if (pattern.startsWith('/')) throw fail('is absolute; patterns are relative to the manifest');
  const parts = pattern.split('/');
  const last = parts.at(-1);
  if (last === '.' || last === '..')
    throw fail('ends in "." or ".."; name the files, for example with "**/*"');
  let depth = 0;
  for (const part of parts) {
    if (part === '..') depth--;
    else if (part !== '' && part !== '.') depth++;
    if (depth < 0) throw fail('leaves the folder of the manifest');
  }
}
