/** Bytes that are taken as one: either all zero or copied. */
const blockBytes = 4096;

/** Zero blocks between two copied runs below which they are copied as one. */
const mergedBlocks = 4;

const zeroBlock = Buffer.alloc(blockBytes);

/** Bytes of a memory that are not all zero, and where they begin. */
export type Run = { readonly offset: number; readonly bytes: Uint8Array };

/** What a memory goes back to. */
export type Image = {
  /** Size of the memory it was taken of. */
  readonly memoryBytes: number;
  /** Whether a memory holds what the image does, so that both can share it. */
  matches(memory: Buffer): boolean;
  /** Takes a memory in whose contents are those of the image. */
  attach(memory: WebAssembly.Memory): void;
  /** Takes a new memory in and gives it the contents of the image. */
  fill(memory: WebAssembly.Memory): void;
  /**
   * Writes the image back; all else, growth since then included, becomes zero. Returns the bytes that the memory takes
   * for itself from then on. `view` is all of the memory.
   */
  restore(memory: WebAssembly.Memory, view: Uint8Array): number;
};

/** The contents of a memory at one moment, without the parts that are zero. */
export class MemoryImage implements Image {
  readonly runs: readonly Run[];
  /** Size of the memory it was taken of. */
  readonly memoryBytes: number;

  /** `runs` in their order, none touching the next. */
  constructor(memoryBytes: number, runs: readonly Run[]) {
    this.memoryBytes = memoryBytes;
    this.runs = runs;
  }

  /** Copies what a memory holds. */
  static of(memory: Buffer): MemoryImage {
    return new MemoryImage(memory.length, runsOf(memory));
  }

  /** Bytes the image itself takes. */
  get storedBytes(): number {
    return this.runs.reduce((sum, run) => sum + run.bytes.length, 0);
  }

  matches(memory: Buffer): boolean {
    if (memory.length !== this.memoryBytes) return false;
    let offset = 0;
    for (const run of this.runs) {
      const end = run.offset + run.bytes.length;
      if (!isZero(memory, offset, run.offset)) return false;
      if (memory.compare(run.bytes, 0, run.bytes.length, run.offset, end) !== 0) return false;
      offset = end;
    }
    return isZero(memory, offset, memory.length);
  }

  attach(_memory: WebAssembly.Memory): void {}

  fill(memory: WebAssembly.Memory): void {
    this.restore(memory, new Uint8Array(memory.buffer));
  }

  restore(_memory: WebAssembly.Memory, view: Uint8Array): number {
    let offset = 0;
    for (const { offset: start, bytes } of this.runs) {
      clear(view, offset, start);
      view.set(bytes, start);
      offset = start + bytes.length;
    }
    clear(view, offset, view.length);
    return view.length;
  }
}

function clear(memory: Uint8Array, start: number, end: number): void {
  if (end > start) memory.fill(0, start, end);
}

function isZero(memory: Buffer, start: number, end: number): boolean {
  for (let offset = start; offset < end; offset += blockBytes) {
    const length = Math.min(blockBytes, end - offset);
    if (memory.compare(zeroBlock, 0, length, offset, offset + length) !== 0) return false;
  }
  return true;
}

function runsOf(memory: Buffer): readonly Run[] {
  const runs: [start: number, end: number][] = [];
  for (let offset = 0; offset < memory.length; offset += blockBytes) {
    const end = Math.min(offset + blockBytes, memory.length);
    if (isZero(memory, offset, end)) continue;
    const last = runs.at(-1);
    if (last !== undefined && offset - last[1] <= mergedBlocks * blockBytes) last[1] = end;
    else runs.push([offset, end]);
  }
  return runs.map(([start, end]) => ({ offset: start, bytes: Uint8Array.from(memory.subarray(start, end)) }));
}
