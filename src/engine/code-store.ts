import { basename, dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import {
  type CheckedFile,
  isMissing,
  readSealKey,
  removeOldest,
  SealedFile,
  takeOwnFolder,
  writeSealed,
} from './sealed-file.ts';

/** Compiled code of one component's core modules, by their names; without bytes where nothing of one was optimized. */
export type ComponentCode = ReadonlyMap<string, Uint8Array>;

/** Bytes of the code of one component. */
export const maxCodeBytes = 64 * 1024 ** 2;

/** Bytes of all code that a store keeps; what was written first goes first. */
const defaultMaxStoredBytes = 512 * 1024 ** 2;

/** Counts up when engines run with other flags of V8's, for it takes no code that was made without them, or code is kept in another form. */
const revision = 3;

/** What no code outlives: V8 looks for itself whether flags and processor are those it was made for. */
const maker = `${process.versions.node}-${process.versions.v8}-${process.arch}-${revision}`;

/**
 * Where the code of an entry's core modules lies: `<store>/code/<name of the entry>-<versions>`, beside the components that it
 * was made of, sealed as they are.
 */
export function codePathOf(entryPath: string): string {
  return join(dirname(entryPath), '..', 'code', `${basename(entryPath)}-${maker}`);
}

/** Code of an entry that is open; `code` has views of the file's payload, and goes with it. */
export type OpenCode = { readonly code: ComponentCode; readonly file: SealedFile };

/**
 * The code that is kept of an entry; undefined where there is none, or none that this node's shim wrote. Checked unless it is
 * the file that is `known`.
 */
export function openCode(entryPath: string, known?: CheckedFile): OpenCode | undefined {
  const path = codePathOf(entryPath);
  const key = (): Buffer => readSealKey(storeOf(entryPath));
  try {
    const file = SealedFile.open(path, { key, label: labelOf(path), maxBytes: 2 * maxCodeBytes, known });
    return { code: unpackCode(file.payload), file };
  } catch (thrown) {
    if (isMissing(thrown) || ShimError.from(thrown).code === 'data-loss') return undefined;
    throw thrown;
  }
}

function unpackCode(packed: Buffer): ComponentCode {
  const headLength = packed.readUInt32LE();
  const head = JSON.parse(packed.subarray(4, 4 + headLength).toString('utf8')) as [string, number][];
  let offset = 4 + headLength;
  return new Map(
    head.map(([name, length]) => {
      offset += length;
      return [name, packed.subarray(offset - length, offset)];
    }),
  );
}

/**
 * Keeps the code of an entry's core modules. Throws `resource-exhausted` for more than a component may have; `warn` is told
 * when the folder was not ours alone and is made again.
 */
export async function writeCode(
  entryPath: string,
  code: ComponentCode,
  warn: (line: string) => void,
  maxStoredBytes = defaultMaxStoredBytes,
): Promise<void> {
  const path = codePathOf(entryPath);
  const bytes = [...code.values()].reduce((sum, { length }) => sum + length, 0);
  if (bytes > maxCodeBytes)
    throw new ShimError(
      'resource-exhausted',
      `the code of "${basename(entryPath)}" has ${bytes} bytes, the limit is ${maxCodeBytes}`,
    );
  const head = Buffer.from(JSON.stringify([...code].map(([name, { length }]) => [name, length])));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  takeOwnFolder(dirname(path), warn);
  await writeSealed(path, readSealKey(storeOf(entryPath)), labelOf(path), [length, head, ...code.values()]);
  await removeOldest(dirname(path), maxStoredBytes, (other) => other !== path);
}

function storeOf(entryPath: string): string {
  return join(dirname(entryPath), '..');
}

function labelOf(path: string): string {
  return `code ${basename(path)}`;
}
