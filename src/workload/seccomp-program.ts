import { type BpfInstruction, bpf, callAnswers, callOffsets, encodeBpf, maxConditionalJump } from '../bpf.ts';
import { ShimError } from '../error.ts';
import { auditArchitectures, type Machine, systemCallNumber } from '../system-calls.ts';
import type { SeccompCondition, SeccompProfile, SeccompRule } from './seccomp-profile.ts';

/** Instructions that the kernel takes in one filter (BPF_MAXINSNS). */
const maxInstructions = 4096;

const notImplemented = callAnswers.fail(38);

/** Calls from a number on, up to the next such number, and what they are answered. */
type Range = { readonly from: number; readonly body: readonly BpfInstruction[] };

/**
 * A profile as a program for the kernel: the number of a call is looked for by halving the ranges of numbers with the same
 * answer, so that some hundreds of names cost no more than nine comparisons, and calls that are always let pass cost none,
 * since the kernel remembers them. Rules are read as runc has them:
 *
 * - names that the machine does not have are left out, and rules that say what is the default anyway;
 * - of a call's rules the first without conditions counts, else the first whose conditions hold;
 * - where the default refuses, calls that are newer than every call that is named are answered with ENOSYS.
 *
 * clone3 is refused with ENOSYS, whatever errno is asked for: the C library then makes its threads by clone. Calls by the
 * conventions of other machines end the process, which is what the engine's own filter does in any case. Throws
 * `invalid-argument` for a profile that takes more instructions than the kernel does.
 */
export function seccompProgram({ defaultAnswer, rules }: SeccompProfile, machine: Machine): Buffer {
  const byNumber = new Map<number, SeccompRule[]>();
  let newest = -1;
  for (const rule of rules) {
    for (const name of rule.names) {
      const number = systemCallNumber(name, machine);
      if (number === undefined) continue;
      newest = Math.max(newest, number);
      if (rule.answer === defaultAnswer) continue;
      const others = byNumber.get(number);
      if (others === undefined) byNumber.set(number, [rule]);
      else others.push(rule);
    }
  }
  const clone3 = systemCallNumber('clone3', machine);
  const otherwise = [give(defaultAnswer)];
  const bodyOf = (number: number): readonly BpfInstruction[] => {
    const body = answerOf(byNumber.get(number) ?? [], defaultAnswer);
    return number === clone3 ? body.map(withoutErrno) : body;
  };
  const ranges: Range[] = [{ from: 0, body: otherwise }];
  const add = (from: number, body: readonly BpfInstruction[]): void => {
    if (ranges.at(-1)?.from === from) ranges.pop();
    const last = ranges.at(-1);
    if (last === undefined || !isSame(last.body, body)) ranges.push({ from, body });
  };
  const named = [...byNumber.keys(), ...(clone3 === undefined || clone3 > newest ? [] : [clone3])];
  for (const number of [...new Set(named)].toSorted((left, right) => left - right)) {
    add(number, bodyOf(number));
    add(number + 1, otherwise);
  }
  if (newest >= 0 && !letsPass(defaultAnswer)) add(newest + 1, [give(notImplemented)]);
  const program: readonly BpfInstruction[] = [
    [bpf.load, callOffsets.architecture],
    [bpf.jumpEqual, auditArchitectures[machine], 1, 0],
    give(callAnswers.killProcess),
    [bpf.load, callOffsets.number],
    ...search(ranges),
  ];
  if (program.length <= maxInstructions) return encodeBpf(program);
  throw new ShimError(
    'invalid-argument',
    `the container's seccomp profile takes ${program.length} instructions; the kernel takes ${maxInstructions}: give it fewer conditions on arguments`,
  );
}

function give(answer: number): BpfInstruction {
  return [bpf.give, answer];
}

/** Also where a tracer decides, of which there is none: what it would be asked about is not hidden from it. */
function letsPass(answer: number): boolean {
  return (
    answer === callAnswers.allow ||
    answer === callAnswers.log ||
    (answer & 0x7fff0000) === callAnswers.trace(0)
  );
}

function withoutErrno(instruction: BpfInstruction): BpfInstruction {
  const [code, value] = instruction;
  const isErrno = code === bpf.give && (value & 0xffff0000) === callAnswers.fail(0);
  return isErrno ? give(notImplemented) : instruction;
}

function isSame(left: readonly BpfInstruction[], right: readonly BpfInstruction[]): boolean {
  const [one, ...more] = left;
  const [other, ...others] = right;
  return more.length === 0 && others.length === 0 && one?.[0] === other?.[0] && one?.[1] === other?.[1];
}

/** What is answered to one call. */
function answerOf(rules: readonly SeccompRule[], defaultAnswer: number): readonly BpfInstruction[] {
  const always = rules.find(({ conditions }) => conditions.length === 0);
  if (always !== undefined) return [give(always.answer)];
  return [
    ...rules.flatMap(({ conditions, answer }) => [...all(conditions), give(answer)]),
    give(defaultAnswer),
  ];
}

/** Goes on where all conditions hold, else skips what follows and the instruction after it. */
function all(conditions: readonly SeccompCondition[]): readonly BpfInstruction[] {
  let program: readonly BpfInstruction[] = [];
  for (const condition of conditions.toReversed()) {
    program = [...compare(condition, program.length + 1), ...program];
  }
  return program;
}

/** Goes on where a condition holds, else jumps over `skip` instructions after its own. The high word is looked at first. */
function compare(
  { index, operator, value, valueTwo }: SeccompCondition,
  skip: number,
): readonly BpfInstruction[] {
  const low = callOffsets.argument(index);
  const loadHigh: BpfInstruction = [bpf.load, low + 4];
  const loadLow: BpfInstruction = [bpf.load, low];
  const [high, rest] = halves(value);
  switch (operator) {
    case 'SCMP_CMP_EQ':
      return [loadHigh, [bpf.jumpEqual, high, 0, skip + 2], loadLow, [bpf.jumpEqual, rest, 0, skip]];
    case 'SCMP_CMP_NE':
      return [loadHigh, [bpf.jumpEqual, high, 0, 2], loadLow, [bpf.jumpEqual, rest, skip, 0]];
    case 'SCMP_CMP_GT':
    case 'SCMP_CMP_GE': {
      const last = operator === 'SCMP_CMP_GT' ? bpf.jumpGreater : bpf.jumpAtLeast;
      return [
        loadHigh,
        [bpf.jumpGreater, high, 3, 0],
        [bpf.jumpEqual, high, 0, skip + 2],
        loadLow,
        [last, rest, 0, skip],
      ];
    }
    case 'SCMP_CMP_LT':
    case 'SCMP_CMP_LE': {
      const last = operator === 'SCMP_CMP_LT' ? bpf.jumpAtLeast : bpf.jumpGreater;
      return [
        loadHigh,
        [bpf.jumpGreater, high, skip + 3, 0],
        [bpf.jumpEqual, high, 0, 2],
        loadLow,
        [last, rest, skip, 0],
      ];
    }
    case 'SCMP_CMP_MASKED_EQ': {
      const [wantedHigh, wantedLow] = halves(valueTwo);
      return [
        loadHigh,
        [bpf.and, high],
        [bpf.jumpEqual, wantedHigh, 0, skip + 3],
        loadLow,
        [bpf.and, rest],
        [bpf.jumpEqual, wantedLow, 0, skip],
      ];
    }
    default:
      return operator satisfies never;
  }
}

function halves(value: bigint): readonly [high: number, low: number] {
  return [Number(value >> 32n), Number(value & 0xffffffffn)];
}

/** Finds the range of the number that is loaded. */
function search(ranges: readonly Range[]): readonly BpfInstruction[] {
  const [first] = ranges;
  if (first === undefined) return [];
  if (ranges.length === 1) return first.body;
  const middle = ranges.length >> 1;
  const below = search(ranges.slice(0, middle));
  const above = search(ranges.slice(middle));
  const from = ranges[middle]?.from ?? 0;
  return below.length <= maxConditionalJump
    ? [[bpf.jumpAtLeast, from, below.length, 0], ...below, ...above]
    : [[bpf.jumpAtLeast, from, 0, 1], [bpf.jump, below.length], ...below, ...above];
}
