import assert from 'node:assert/strict';
import { auditArchitectures } from '../../src/system-calls.ts';

/** A system call as a filter sees it. */
export type FilteredCall = {
  readonly number: number;
  readonly args?: readonly bigint[];
  readonly architecture?: number;
};

/** What a filter of system calls answers to one, as an unsigned number: classic BPF, of it what our filters use. */
export function runFilter(
  program: Uint8Array,
  { number, args = [], architecture = auditArchitectures.x64 }: FilteredCall,
): number {
  const code = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(architecture, 4);
  args.forEach((value, index) => void data.writeBigUInt64LE(value, 16 + 8 * index));
  let loaded = 0;
  for (let at = 0; at < code.length / 8; at += 1) {
    const value = code.readUInt32LE(8 * at + 4);
    const jump = (taken: boolean): number => code.readUInt8(8 * at + (taken ? 2 : 3));
    switch (code.readUInt16LE(8 * at)) {
      case 0x20:
        loaded = data.readUInt32LE(value);
        break;
      case 0x54:
        loaded = (loaded & value) >>> 0;
        break;
      case 0x05:
        at += value;
        break;
      case 0x15:
        at += jump(loaded === value);
        break;
      case 0x25:
        at += jump(loaded > value);
        break;
      case 0x35:
        at += jump(loaded >= value);
        break;
      case 0x45:
        at += jump((loaded & value) !== 0);
        break;
      case 0x06:
        return value;
      default:
        assert.fail(`instruction ${at} is none of those that are used`);
    }
  }
  return assert.fail('the filter ends without an answer');
}

/** An answer in words. */
export function describeAnswer(answer: number): string {
  switch (answer & 0xffff0000) {
    case 0x7fff0000:
      return 'allowed';
    case 0x80000000 | 0:
      return 'killed';
    case 0x00050000:
      return `errno ${answer & 0xffff}`;
    case 0x00030000:
      return 'trapped';
    case 0x7ffc0000:
      return 'logged';
    case 0x7ff00000:
      return `traced ${answer & 0xffff}`;
    default:
      return assert.fail(`${answer.toString(16)} is no answer`);
  }
}
