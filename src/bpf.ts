/** Classic BPF, in which the kernel takes filters of sockets and of system calls. */

/** An instruction: code and value, and how many instructions to skip if its condition holds, or not. */
export type BpfInstruction = readonly [code: number, value: number, ifTrue?: number, ifFalse?: number];

/** Codes of instructions; all work on the accumulator and the instruction's value. */
export const bpf = {
  /** Loads the byte, or the word of 32 bits, at an offset. */
  loadByte: 0x30,
  load: 0x20,
  and: 0x54,
  /** Skips as many instructions as its value says. */
  jump: 0x05,
  jumpEqual: 0x15,
  jumpGreater: 0x25,
  jumpAtLeast: 0x35,
  /** Whether a bit of the value is set. */
  jumpSet: 0x45,
  /** Ends with the value as the answer. */
  give: 0x06,
} as const;

/** How far a condition may jump. */
export const maxConditionalJump = 255;

/** Where a filter of system calls finds what (struct seccomp_data); the low word of an argument comes first. */
export const callOffsets = {
  number: 0,
  architecture: 4,
  argument: (index: number): number => 16 + 8 * index,
} as const;

/** Answers of a filter of system calls (seccomp(2)); the low 16 bits of some are an errno. */
export const callAnswers = {
  killProcess: 0x80000000,
  trap: 0x00030000,
  fail: (errno: number): number => 0x00050000 | errno,
  trace: (errno: number): number => 0x7ff00000 | errno,
  log: 0x7ffc0000,
  allow: 0x7fff0000,
} as const;

/** The instructions as the kernel reads them: struct sock_filter, 8 bytes each. */
export function encodeBpf(program: readonly BpfInstruction[]): Buffer {
  const bytes = Buffer.alloc(8 * program.length);
  program.forEach(([code, value, ifTrue = 0, ifFalse = 0], index) => {
    bytes.writeUInt16LE(code, 8 * index);
    bytes.writeUInt8(ifTrue, 8 * index + 2);
    bytes.writeUInt8(ifFalse, 8 * index + 3);
    bytes.writeUInt32LE(value >>> 0, 8 * index + 4);
  });
  return bytes;
}
