import { ShimError } from '../../error.ts';
import { BinaryReader } from './binary-reader.ts';
import { leb, name, section } from './binary-writer.ts';
import { type CoreModule, type MemoryLimits, sectionIds } from './module-reader.ts';
import type { PageCounter } from './page-counter.ts';

/**
 * Names under which a rewritten module exports its state: `$memory`, `$pages` for the counter of its pages, `$g<index>`
 * for each mutable global.
 */
export const stateExportPattern = /^\$(?:memory|pages|g\d+)$/;
export const memoryExport = '$memory';
export const pagesExport = '$pages';

/** The order of sections, which is not that of their ids. */
const sectionOrder: readonly number[] = [
  sectionIds.type,
  sectionIds.import,
  sectionIds.function,
  sectionIds.table,
  sectionIds.memory,
  sectionIds.tag,
  sectionIds.global,
  sectionIds.export,
  sectionIds.start,
  sectionIds.element,
  sectionIds.dataCount,
  sectionIds.code,
  sectionIds.data,
];

/** Entries that a section gets after the `before` it has. */
type Addition = { readonly before: number; readonly entries: readonly (readonly number[])[] };

/**
 * The module with its memory capped at `maxMemoryPages` (64 KiB each) and, with `exportState`, its memory and mutable
 * globals exported; with a page counter its memory can be made to seem as small as it was. Throws `resource-exhausted`
 * when the module's memory begins larger than the cap.
 */
export function rewriteModule(
  module: CoreModule,
  {
    exportState,
    maxMemoryPages,
    pageCounter,
    data,
  }: {
    readonly exportState: boolean;
    readonly maxMemoryPages: number;
    readonly pageCounter?: PageCounter | undefined;
    /** The section that takes the place of the module's data. */
    readonly data?: Uint8Array | undefined;
  },
): Uint8Array {
  const additions = new Map<number, Addition>();
  for (const [id, { before, bytes }] of pageCounter?.entries ?? [])
    additions.set(id, { before, entries: [bytes] });
  const exports = exportState ? stateExports(module, pageCounter) : [];
  if (exports.length > 0) additions.set(sectionIds.export, { before: module.exportCount, entries: exports });
  const chunks: Uint8Array[] = [module.bytes.subarray(0, 8)];
  for (const { id, start, body, end } of module.sections) {
    const place = sectionOrder.indexOf(id);
    if (id !== sectionIds.custom) {
      // Sections the module lacks so far, before the first that comes after them.
      for (const [missing, addition] of additions) {
        if (sectionOrder.indexOf(missing) >= place) continue;
        chunks.push(extended(missing, new Uint8Array(0), addition));
        additions.delete(missing);
      }
    } else if (pageCounter !== undefined && isCodeMetadata(new BinaryReader(module.bytes, body, end)))
      continue;
    const addition = additions.get(id);
    additions.delete(id);
    if (addition !== undefined) {
      const old = module.bytes.subarray(body + lebLength(module.bytes, body), end);
      chunks.push(extended(id, old, addition));
    } else if (id === sectionIds.memory && module.memories.length > 0) {
      const limits = module.memories.map((memory) => cappedLimits(memory, maxMemoryPages));
      chunks.push(section(id, Uint8Array.from([...leb(limits.length), ...limits.flat()])));
    } else if (id === sectionIds.data && data !== undefined) {
      chunks.push(data);
    } else if (id === sectionIds.code && pageCounter !== undefined) {
      chunks.push(section(id, pageCounter.code(new BinaryReader(module.bytes, body, end))));
    } else {
      chunks.push(module.bytes.subarray(start, end));
    }
  }
  for (const [id, addition] of additions) chunks.push(extended(id, new Uint8Array(0), addition));
  return new Uint8Array(Buffer.concat(chunks));
}

function extended(id: number, old: Uint8Array, { before, entries }: Addition): Uint8Array {
  const count = Uint8Array.from(leb(before + entries.length));
  return section(id, Buffer.concat([count, old, Uint8Array.from(entries.flat())]));
}

/** Whether a custom section speaks of code by offsets, which are no longer right. */
function isCodeMetadata(body: BinaryReader): boolean {
  return body.name().startsWith('metadata.code.');
}

function stateExports(module: CoreModule, counter: PageCounter | undefined): readonly (readonly number[])[] {
  const exports: number[][] = [];
  if (module.memories.length > 0) exports.push([...name(memoryExport), 2, ...leb(module.importedMemories)]);
  if (counter !== undefined) exports.push([...name(pagesExport), 3, ...leb(counter.global)]);
  module.globals.forEach((global, index) => {
    if (!global.mutable) return;
    const globalIndex = module.importedGlobals + index;
    exports.push([...name(`$g${globalIndex}`), 3, ...leb(globalIndex)]);
  });
  return exports;
}

function cappedLimits({ min, max, shared }: MemoryLimits, maxPages: number): readonly number[] {
  if (min > maxPages) {
    throw new ShimError(
      'resource-exhausted',
      `its memory begins with ${min} pages, the limit "maxMemoryPages" is ${maxPages}`,
    );
  }
  return [shared ? 3 : 1, ...leb(min), ...leb(Math.min(max ?? maxPages, maxPages))];
}

function lebLength(bytes: Uint8Array, offset: number): number {
  let length = 1;
  while ((bytes[offset + length - 1] ?? 0) >= 0x80) length += 1;
  return length;
}
