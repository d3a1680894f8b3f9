import { ShimError } from '../../error.ts';
import { BinaryReader } from './binary-reader.ts';
import { leb, section } from './binary-writer.ts';
import { layoutOf, packRanges } from './image-ranges.ts';
import { MemoryImage } from './memory-image.ts';
import { type CoreModule, sectionIds } from './module-reader.ts';

/** Data of a module from which it is made an image when the component is prepared; less is copied in no time. */
export const minStartImageBytes = 256 * 1024;

/** A memory that begins larger than this is not made an image. */
const maxStartImageBytes = 64 * 1024 * 1024;

const wasmPage = 65_536;

/** What a component's memory is before any code of it has run. */
export type StartImage = {
  /** The core module whose memory it is, whose data segments have been emptied. */
  readonly module: number;
  /** Whether nothing that runs at an instance's start changes it, so that it is also what an instance is restored to. */
  readonly settled: boolean;
  readonly memoryBytes: number;
  /** Where there is anything in it; the rest is zero. */
  readonly runs: readonly (readonly [offset: number, length: number])[];
};

/** One active data segment. */
type Segment = { readonly offset: number; readonly bytes: Uint8Array };

/**
 * Puts the data of a component together to the image of its one memory, without running anything of it. Undefined where
 * there is little of it, or where it is not known before code runs: a start function of the module itself, offsets that
 * are computed, segments that do not fit. `bytes` are laid out by `layoutOf` of the runs. `emptied` takes the place of the module's data section: as many segments, all
 * empty, since that is what active ones are once an instance is made.
 */
export function startImageOf(
  modules: readonly CoreModule[],
): { readonly image: StartImage; readonly bytes: Uint8Array; readonly emptied: Uint8Array } | undefined {
  const index = modules.findIndex((module) => module.memories.length === 1);
  const owner = modules[index];
  const data = owner === undefined ? undefined : sectionOf(owner, sectionIds.data);
  const memoryBytes = (owner?.memories[0]?.min ?? 0) * wasmPage;
  if (owner === undefined || data === undefined || memoryBytes > maxStartImageBytes) return undefined;
  if (data.end - data.offset < minStartImageBytes || sectionOf(owner, sectionIds.start) !== undefined)
    return undefined;
  const segments = activeSegments(data);
  if (segments?.every(({ offset, bytes }) => offset + bytes.length <= memoryBytes) !== true) return undefined;
  const memory = Buffer.alloc(memoryBytes);
  for (const { offset, bytes } of segments) memory.set(bytes, offset);
  const runs = MemoryImage.of(memory).runs.map(({ offset, bytes }) => [offset, bytes.length] as const);
  const settled = modules.every(
    (module) =>
      sectionOf(module, sectionIds.start) === undefined &&
      (module === owner || sectionOf(module, sectionIds.data) === undefined),
  );
  const emptySegment = [0x00, 0x41, 0x00, 0x0b, 0x00];
  return {
    image: {
      module: index,
      settled,
      memoryBytes,
      runs,
    },
    bytes: packRanges(memory, layoutOf(runs)),
    emptied: section(
      sectionIds.data,
      Uint8Array.from([...leb(segments.length), ...segments.flatMap(() => emptySegment)]),
    ),
  };
}

function sectionOf({ bytes, sections }: CoreModule, id: number): BinaryReader | undefined {
  const found = sections.find((section) => section.id === id);
  return found === undefined ? undefined : new BinaryReader(bytes, found.body, found.end);
}

/** The segments of a data section if all are active ones of the one memory at constant offsets. */
function activeSegments(data: BinaryReader): readonly Segment[] | undefined {
  const segments: Segment[] = [];
  for (let left = data.count(); left > 0; left--) {
    const kind = data.u32();
    if (kind === 1 || (kind === 2 && data.u32() !== 0) || kind > 2) return undefined;
    const offset = constantOffset(data);
    if (offset === undefined) return undefined;
    segments.push({ offset, bytes: data.take(data.u32()) });
  }
  return segments;
}

/** `i32.const n end`; undefined for every other expression. */
function constantOffset(data: BinaryReader): number | undefined {
  if (data.byte() !== 0x41) return undefined;
  let value = 0;
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = data.byte();
    value |= shift < 32 ? (byte & 0x7f) << shift : 0;
    if (byte >= 0x80) continue;
    // What is left of a negative number is ones.
    if (shift + 7 < 32 && (byte & 0x40) !== 0) value |= -1 << (shift + 7);
    return data.byte() === 0x0b ? value >>> 0 : undefined;
  }
  throw new ShimError('invalid-component', 'not a valid binary: a number is too long');
}
