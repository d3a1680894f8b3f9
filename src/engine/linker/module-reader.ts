import { ShimError } from '../../error.ts';
import { BinaryReader } from './binary-reader.ts';
import { skipConstantExpression } from './opcode-scanner.ts';

export const sectionIds = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
  tag: 13,
} as const;

export type ModuleSection = {
  readonly id: number;
  /** Offset of the section's id. */
  readonly start: number;
  /** Offset of its contents. */
  readonly body: number;
  readonly end: number;
};

/** Limits of a memory, in pages of 64 KiB. */
export type MemoryLimits = {
  readonly min: number;
  readonly max: number | undefined;
  readonly shared: boolean;
};

export type GlobalType = { readonly valueType: number; readonly mutable: boolean };

/** The parts of a core module that decide how it is linked and restored. */
export type CoreModule = {
  readonly bytes: Uint8Array;
  readonly sections: readonly ModuleSection[];
  /** Types it defines; undefined when there are others than plain function types. */
  readonly typeCount: number | undefined;
  readonly importedFunctions: number;
  readonly functionCount: number;
  readonly importedGlobals: number;
  readonly importedMemories: number;
  readonly memories: readonly MemoryLimits[];
  readonly globals: readonly GlobalType[];
  readonly exportNames: ReadonlySet<string>;
  readonly exportCount: number;
};

const preamble = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** Reads a core module as far as linking needs it. Throws `invalid-component` and `unsupported`. */
export function readModule(bytes: Uint8Array): CoreModule {
  if (!preamble.every((byte, index) => bytes[index] === byte))
    throw new ShimError('invalid-component', 'not a valid component: a core module does not begin as one');
  const reader = new BinaryReader(bytes, preamble.length);
  const sections: ModuleSection[] = [];
  let typeCount: number | undefined = 0;
  let importedFunctions = 0;
  let functionCount = 0;
  let importedGlobals = 0;
  let importedMemories = 0;
  const memories: MemoryLimits[] = [];
  const globals: GlobalType[] = [];
  const exportNames = new Set<string>();
  let exportCount = 0;
  while (!reader.done) {
    const start = reader.offset;
    const id = reader.byte();
    const body = reader.section(reader.u32());
    sections.push({ id, start, body: body.offset, end: body.end });
    switch (id) {
      case sectionIds.type:
        typeCount = countFunctionTypes(body);
        break;
      case sectionIds.function:
        functionCount = body.count();
        body.skip(body.end - body.offset);
        break;
      case sectionIds.import:
        for (let left = body.count(); left > 0; left--) {
          const kind = readImportKind(body);
          if (kind === 'function') importedFunctions += 1;
          if (kind === 'memory') importedMemories += 1;
          if (kind === 'global') importedGlobals += 1;
        }
        break;
      case sectionIds.memory:
        for (let left = body.count(); left > 0; left--) memories.push(readLimits(body));
        break;
      case sectionIds.global:
        for (let left = body.count(); left > 0; left--) {
          globals.push(readGlobal(body));
          skipConstantExpression(body);
        }
        break;
      case sectionIds.export:
        for (let left = body.count(); left > 0; left--) {
          exportNames.add(body.name());
          body.byte();
          body.u32();
          exportCount += 1;
        }
        break;
      default:
        body.skip(body.end - body.offset);
    }
    body.expectEnd();
  }
  return {
    bytes,
    sections,
    typeCount,
    importedFunctions,
    functionCount,
    importedGlobals,
    importedMemories,
    memories,
    globals,
    exportNames,
    exportCount,
  };
}

/** How many types the section has; undefined, the rest skipped, when one is no function of numbers and references. */
function countFunctionTypes(body: BinaryReader): number | undefined {
  const count = body.count();
  for (let left = count; left > 0; left--) {
    if (body.byte() !== 0x60) {
      body.skip(body.end - body.offset);
      return undefined;
    }
    for (const _part of ['parameters', 'results'])
      for (let types = body.count(); types > 0; types--) {
        const type = body.byte();
        if (type === 0x63 || type === 0x64) body.skipLeb(5);
      }
  }
  return count;
}

function readImportKind(body: BinaryReader): 'function' | 'memory' | 'global' | 'other' {
  body.name();
  body.name();
  const kind = body.byte();
  switch (kind) {
    case 0:
      body.u32();
      return 'function';
    case 1: {
      const type = body.byte();
      if (type === 0x63 || type === 0x64)
        throw new ShimError('unsupported', 'a core module has tables of typed references');
      readLimits(body);
      return 'other';
    }
    case 2:
      readLimits(body);
      return 'memory';
    case 3:
      readGlobal(body);
      return 'global';
    case 4:
      body.byte();
      body.u32();
      return 'other';
    default:
      throw body.invalid(`an import of kind ${kind}`);
  }
}

function readLimits(body: BinaryReader): MemoryLimits {
  const flags = body.byte();
  if (flags > 3) throw new ShimError('unsupported', 'a core module has a 64-bit memory or table');
  const min = body.u32();
  return { min, max: (flags & 1) === 1 ? body.u32() : undefined, shared: (flags & 2) === 2 };
}

function readGlobal(body: BinaryReader): GlobalType {
  const valueType = body.byte();
  if (valueType === 0x63 || valueType === 0x64)
    throw new ShimError('unsupported', 'a core module has globals of typed references');
  const mutable = body.byte();
  if (mutable > 1) throw body.invalid('a global is neither mutable nor constant');
  return { valueType, mutable: mutable === 1 };
}
