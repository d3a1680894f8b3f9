import type { BinaryReader } from './binary-reader.ts';
import { leb, signedLeb } from './binary-writer.ts';
import { type CoreModule, sectionIds } from './module-reader.ts';
import type { SizeInstruction } from './opcode-scanner.ts';

/**
 * What a module gets so that a guest's memory is as small after a restore as it was before. No memory of WebAssembly
 * shrinks; so the module counts the pages it has asked for in a global of its own, `memory.size` reads that global and
 * `memory.grow` calls a function that takes pages the memory has already before it makes it larger. The global is
 * restored like any other; pages beyond it are zero, as new ones are.
 */
export type PageCounter = {
  /** Index of the global. */
  readonly global: number;
  /** One entry each for the sections of types, functions and globals. */
  readonly entries: ReadonlyMap<number, { readonly before: number; readonly bytes: readonly number[] }>;
  /** The code section's new contents. */
  code(contents: BinaryReader): Uint8Array;
};

/**
 * A counter for each module that says how large its memory is or has it grow, by index. None where that is done by a
 * module other than the memory's own, which the counter would not reach.
 */
export function pageCounters(
  modules: readonly CoreModule[],
  sizeInstructions: readonly (readonly SizeInstruction[])[],
): readonly (PageCounter | undefined)[] {
  if (modules.some((module, index) => module.importedMemories > 0 && sizeInstructions[index]?.length !== 0))
    return [];
  return modules.map((module, index) => counterOf(module, sizeInstructions[index] ?? []));
}

function counterOf(
  { bytes, typeCount, importedFunctions, functionCount, importedGlobals, globals, memories }: CoreModule,
  instructions: readonly SizeInstruction[],
): PageCounter | undefined {
  const [memory] = memories;
  if (instructions.length === 0 || memory === undefined || typeCount === undefined) return undefined;
  const global = importedGlobals + globals.length;
  const readSize = Uint8Array.from([0x23, ...leb(global)]);
  const callGrow = Uint8Array.from([0x10, ...leb(importedFunctions + functionCount)]);
  return {
    global,
    entries: new Map([
      [sectionIds.type, { before: typeCount, bytes: [0x60, 1, 0x7f, 1, 0x7f] }],
      [sectionIds.function, { before: functionCount, bytes: leb(typeCount) }],
      [sectionIds.global, { before: globals.length, bytes: [0x7f, 1, 0x41, ...signedLeb(memory.min), 0x0b] }],
    ]),
    code: (contents) => {
      const chunks: Uint8Array[] = [];
      let next = 0;
      const count = contents.count();
      let unchanged = contents.offset;
      for (let left = count; left > 0; left--) {
        const start = contents.offset;
        const body = contents.section(contents.u32());
        if ((instructions[next]?.start ?? Number.POSITIVE_INFINITY) >= body.end) continue;
        chunks.push(bytes.subarray(unchanged, start));
        const parts: Uint8Array[] = [];
        let copied = body.offset;
        for (let found = instructions[next]; found !== undefined && found.start < body.end; ) {
          parts.push(bytes.subarray(copied, found.start), found.kind === 'size' ? readSize : callGrow);
          copied = found.end;
          next += 1;
          found = instructions[next];
        }
        parts.push(bytes.subarray(copied, body.end));
        chunks.push(...sized(Buffer.concat(parts)));
        unchanged = body.end;
      }
      chunks.push(bytes.subarray(unchanged, contents.end));
      return Buffer.concat([Uint8Array.from(leb(count + 1)), ...chunks, ...sized(growFunction(global))]);
    },
  };
}

function sized(body: Uint8Array): readonly [Uint8Array, Uint8Array] {
  return [Uint8Array.from(leb(body.length)), body];
}

/**
 * `(func (param $delta i32) (result i32))`: the count so far, or -1 where the memory would not grow. Pages that the
 * memory has and the guest has not asked for yet are taken first.
 */
function growFunction(global: number): Uint8Array {
  const pages = leb(global);
  const failed = [0x41, 0x7f];
  /** memory.size - $pages */
  const spare = [0x3f, 0, 0x23, ...pages, 0x6b];
  return Uint8Array.from([
    ...[0],
    // if ($delta > spare, unsigned) and (memory.grow ($delta - spare) is -1): return -1
    ...[0x20, 0, ...spare, 0x4b, 0x04, 0x40],
    ...[0x20, 0, ...spare, 0x6b, 0x40, 0, ...failed, 0x46],
    ...[0x04, 0x40, ...failed, 0x0f, 0x0b],
    ...[0x0b],
    // leave the old count, add $delta
    ...[0x23, ...pages, 0x23, ...pages, 0x20, 0, 0x6a, 0x24, ...pages],
    ...[0x0b],
  ]);
}
