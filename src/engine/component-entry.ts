import { ShimError } from '../error.ts';
import type { Linked } from './link.ts';
import { layoutOf, rangeAlignment } from './linker/image-ranges.ts';
import type { StartImage } from './linker/start-image.ts';
import { codeBytes } from './sealed-file.ts';
import type { Transpiled } from './transpile.ts';

/** Raised with every change of an entry's form; part of the key under which entries are kept. */
export const entryRevision = 5;

/** What runs a component: jco's glue, with why our linker left it, or a plan of our linker. */
export type EntryForm =
  | { readonly kind: 'glue'; readonly reason: string }
  | { readonly kind: 'plan'; readonly reuse: Reuse };

/** Whether an instance can be put back to its first state after a request, and if not, why. */
export type Reuse = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** What an entry says of itself. */
export type CacheEntry = {
  readonly imports: readonly string[];
  readonly exports: readonly string[];
  readonly form: EntryForm;
};

/** A component ready to run. */
export type EntryContent = {
  readonly entry: CacheEntry;
  /** The glue as ES module text, or the plan as JSON. */
  readonly text: string;
  /** Core modules by the name under which the glue asks for them, or in the plan's order. */
  readonly coreModules: readonly (readonly [name: string, bytes: Uint8Array])[];
  /** The memory before any code runs, where the core modules do not bring it; `bytes` are laid out by `layoutOf` of its runs. */
  readonly start?: { readonly image: StartImage; readonly bytes: Uint8Array };
};

/** What precedes the parts in a packed entry. */
type Header = {
  readonly entry: CacheEntry;
  readonly textBytes: number;
  readonly coreModules: readonly (readonly [name: string, bytes: number])[];
  readonly image?: StartImage;
};

/** What jco or our linker made → an entry. */
export function entryOf(made: Transpiled | Linked): EntryContent {
  const { imports, exports, coreModules } = made;
  const form: EntryForm =
    'glue' in made ? { kind: 'glue', reason: made.reason } : { kind: 'plan', reuse: made.reuse };
  return {
    entry: { imports, exports, form },
    text: 'glue' in made ? made.glue : JSON.stringify(made.plan),
    coreModules,
    ...('start' in made && made.start !== undefined ? { start: made.start } : {}),
  };
}

/**
 * `<u32 length of the header, little-endian><header, JSON><text><core modules><zeros><image>`. The zeros have the image begin
 * at whole pages of the sealed file, which is mapped.
 */
export function packEntry({ entry, text, coreModules, start }: EntryContent): readonly Uint8Array[] {
  const body = Buffer.from(text);
  const header: Header = {
    entry,
    textBytes: body.length,
    coreModules: coreModules.map(([name, bytes]) => [name, bytes.length]),
    ...(start === undefined ? {} : { image: start.image }),
  };
  const head = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  const parts = [length, head, body, ...coreModules.map(([, bytes]) => bytes)];
  if (start === undefined) return parts;
  const end = parts.reduce((sum, { length }) => sum + length, 0);
  return [...parts, new Uint8Array(paddingAfter(end)), start.bytes];
}

/**
 * The reverse. The bytes are known to be ours, so their form is taken as it is; only lengths are looked at. Core modules
 * are views of `packed`. Throws `data-loss` when they do not add up; `where` names the entry.
 */
export function unpackEntry(packed: Buffer, where: string): EntryContent {
  let offset = 0;
  const take = (length: number): Buffer => {
    offset += length;
    if (offset > packed.length) throw new ShimError('data-loss', `"${where}" is not used: its parts are cut`);
    return packed.subarray(offset - length, offset);
  };
  const headLength = take(4).readUInt32LE();
  const { entry, textBytes, coreModules, image } = JSON.parse(take(headLength).toString('utf8')) as Header;
  const text = take(textBytes).toString('utf8');
  const content = {
    entry,
    text,
    coreModules: coreModules.map(([name, bytes]) => [name, take(bytes)] as const),
  };
  if (image === undefined) return content;
  take(paddingAfter(offset));
  return { ...content, start: { image, bytes: take(layoutOf(image.runs).length) } };
}

/** Bytes up to the next whole page of the sealed file after so many bytes of its payload. */
function paddingAfter(payloadBytes: number): number {
  return -(codeBytes + payloadBytes) & (rangeAlignment - 1);
}
