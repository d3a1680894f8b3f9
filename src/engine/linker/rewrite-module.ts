import { ShimError } from '../../error.ts';
import { type CoreModule, type MemoryLimits, sectionIds } from './module-reader.ts';

/** Names under which a rewritten module exports its state: `$memory` and `$g<index>` for each mutable global. */
export const stateExportPattern = /^\$(?:memory|g\d+)$/;
export const memoryExport = '$memory';

/** Sections that come after the exports. */
const afterExports: ReadonlySet<number> = new Set([
  sectionIds.start,
  sectionIds.element,
  sectionIds.dataCount,
  sectionIds.code,
  sectionIds.data,
]);

/**
 * The module with its memory capped at `maxMemoryPages` (64 KiB each) and, with `exportState`, its memory and mutable
 * globals exported. Throws `resource-exhausted` when the module's memory begins larger than the cap.
 */
export function rewriteModule(
  module: CoreModule,
  { exportState, maxMemoryPages }: { readonly exportState: boolean; readonly maxMemoryPages: number },
): Uint8Array {
  const additions = exportState ? stateExports(module) : [];
  const chunks: Uint8Array[] = [module.bytes.subarray(0, 8)];
  let exportsWritten = additions.length === 0;
  for (const { id, start, body, end } of module.sections) {
    if (!exportsWritten && afterExports.has(id)) {
      chunks.push(section(sectionIds.export, [...leb(additions.length), ...additions.flat()]));
      exportsWritten = true;
    }
    if (id === sectionIds.memory && module.memories.length > 0) {
      const limits = module.memories.map((memory) => cappedLimits(memory, maxMemoryPages));
      chunks.push(section(id, [...leb(limits.length), ...limits.flat()]));
    } else if (id === sectionIds.export && !exportsWritten) {
      const old = module.bytes.subarray(body + lebLength(module.bytes, body), end);
      const count = leb(module.exportCount + additions.length);
      chunks.push(
        Buffer.concat([
          Buffer.from([id, ...leb(count.length + old.length + additions.flat().length), ...count]),
          old,
          Buffer.from(additions.flat()),
        ]),
      );
      exportsWritten = true;
    } else {
      chunks.push(module.bytes.subarray(start, end));
    }
  }
  if (!exportsWritten)
    chunks.push(section(sectionIds.export, [...leb(additions.length), ...additions.flat()]));
  return new Uint8Array(Buffer.concat(chunks));
}

function stateExports(module: CoreModule): readonly (readonly number[])[] {
  const exports: number[][] = [];
  if (module.memories.length > 0) exports.push([...name(memoryExport), 2, ...leb(module.importedMemories)]);
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

function section(id: number, contents: readonly number[]): Uint8Array {
  return Uint8Array.from([id, ...leb(contents.length), ...contents]);
}

function name(text: string): readonly number[] {
  const bytes = Buffer.from(text);
  return [...leb(bytes.length), ...bytes];
}

function leb(value: number): readonly number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest > 0);
  return bytes;
}

function lebLength(bytes: Uint8Array, offset: number): number {
  let length = 1;
  while ((bytes[offset + length - 1] ?? 0) >= 0x80) length += 1;
  return length;
}
