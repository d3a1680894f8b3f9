import { ShimError } from '../../error.ts';
import type { BinaryReader } from './binary-reader.ts';

/** Instructions that change state a restore does not reach, or that this scanner does not read. */
const refusals: ReadonlyMap<number, string> = new Map([
  [0x06, 'try'],
  [0x07, 'catch'],
  [0x08, 'throw'],
  [0x09, 'rethrow'],
  [0x0a, 'throw_ref'],
  [0x14, 'call_ref'],
  [0x15, 'return_call_ref'],
  [0x18, 'delegate'],
  [0x19, 'catch_all'],
  [0x1f, 'try_table'],
  [0x26, 'table.set'],
  [0xfb, 'an instruction of the garbage collection proposal'],
  [0xfe, 'an atomic instruction'],
]);

/** The same for the instructions behind the prefix 0xfc. */
const bulkRefusals: ReadonlyMap<number, string> = new Map([
  [9, 'data.drop'],
  [12, 'table.init'],
  [13, 'elem.drop'],
  [14, 'table.copy'],
  [15, 'table.grow'],
  [17, 'table.fill'],
]);

/**
 * Steps over one instruction with its immediates. Throws `unsupported` for one that changes tables or drops segments,
 * and for every instruction that is not known.
 */
function skipInstruction(reader: BinaryReader): number {
  const opcode = reader.byte();
  if (opcode >= 0x45 && opcode <= 0xc4) return opcode;
  if (opcode >= 0x28 && opcode <= 0x3e) {
    skipMemoryArgument(reader);
    return opcode;
  }
  switch (opcode) {
    case 0x00:
    case 0x01:
    case 0x05:
    case 0x0b:
    case 0x0f:
    case 0x1a:
    case 0x1b:
    case 0xd1:
      return opcode;
    case 0x02:
    case 0x03:
    case 0x04:
      skipBlockType(reader);
      return opcode;
    case 0x0c:
    case 0x0d:
    case 0x10:
    case 0x12:
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
    case 0x24:
    case 0x25:
    case 0x3f:
    case 0x40:
    case 0x41:
    case 0xd0:
    case 0xd2:
      reader.skipLeb(5);
      return opcode;
    case 0x11:
    case 0x13:
      reader.skipLeb(5);
      reader.skipLeb(5);
      return opcode;
    case 0x0e:
      for (let left = reader.count() + 1; left > 0; left--) reader.skipLeb(5);
      return opcode;
    case 0x1c:
      for (let left = reader.count(); left > 0; left--) reader.skipLeb(5);
      return opcode;
    case 0x42:
      reader.skipLeb(10);
      return opcode;
    case 0x43:
      reader.skip(4);
      return opcode;
    case 0x44:
      reader.skip(8);
      return opcode;
    case 0xfc:
      skipBulk(reader);
      return opcode;
    case 0xfd:
      skipVector(reader);
      return opcode;
    default:
      throw refused(refusals.get(opcode) ?? `instruction 0x${opcode.toString(16)}`);
  }
}

function skipBulk(reader: BinaryReader): void {
  const opcode = reader.u32();
  if (opcode <= 7) return;
  switch (opcode) {
    case 8:
    case 10:
      reader.skipLeb(5);
      reader.skipLeb(5);
      return;
    case 11:
    case 16:
      reader.skipLeb(5);
      return;
    default:
      throw refused(bulkRefusals.get(opcode) ?? `instruction 0xfc 0x${opcode.toString(16)}`);
  }
}

function skipVector(reader: BinaryReader): void {
  const opcode = reader.u32();
  if (opcode <= 11 || opcode === 92 || opcode === 93) skipMemoryArgument(reader);
  else if (opcode === 12 || opcode === 13) reader.skip(16);
  else if (opcode >= 21 && opcode <= 34) reader.skip(1);
  else if (opcode >= 84 && opcode <= 91) {
    skipMemoryArgument(reader);
    reader.skip(1);
  } else if (opcode > 275) throw refused(`instruction 0xfd 0x${opcode.toString(16)}`);
}

function skipMemoryArgument(reader: BinaryReader): void {
  const align = reader.u32();
  if (align >= 0x80) throw refused('an unknown form of memory access');
  if (align >= 0x40) reader.skipLeb(5);
  reader.skipLeb(10);
}

function skipBlockType(reader: BinaryReader): void {
  const first = reader.peek();
  if (first === 0x63 || first === 0x64) throw refused('typed references');
  reader.skipLeb(5);
}

/** Steps over a constant expression, up to and with its `end`. */
export function skipConstantExpression(reader: BinaryReader): void {
  for (;;) {
    const opcode = skipInstruction(reader);
    if (opcode === 0x0b) return;
    if (!constantInstructions.has(opcode))
      throw refused(`instruction 0x${opcode.toString(16)} in a constant`);
  }
}

const constantInstructions: ReadonlySet<number> = new Set([
  0x23, 0x41, 0x42, 0x43, 0x44, 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e, 0xd0, 0xd2, 0xfd,
]);

/** A `memory.size` or `memory.grow`, by its place in the module's bytes. */
export type SizeInstruction = {
  readonly kind: 'size' | 'grow';
  readonly start: number;
  readonly end: number;
};

const sizeOpcode = 0x3f;
const growOpcode = 0x40;

/** Checks every instruction of a code section and answers those about the memory's size. Throws as `skipInstruction` does. */
export function scanCode(code: BinaryReader): readonly SizeInstruction[] {
  const found: SizeInstruction[] = [];
  for (let left = code.count(); left > 0; left--) {
    const body = code.section(code.u32());
    for (let groups = body.count(); groups > 0; groups--) {
      body.skipLeb(5);
      const type = body.byte();
      if (type === 0x63 || type === 0x64) throw refused('typed references');
    }
    while (!body.done) {
      const start = body.offset;
      const opcode = skipInstruction(body);
      if (opcode === sizeOpcode || opcode === growOpcode)
        found.push({ kind: opcode === sizeOpcode ? 'size' : 'grow', start, end: body.offset });
    }
  }
  return found;
}

function refused(what: string): ShimError {
  return new ShimError('unsupported', `its code has ${what}`);
}
