import { callAnswers } from '../bpf.ts';
import { ShimError } from '../error.ts';
import {
  invalid,
  type JsonObject,
  listAt,
  numberAt,
  objectAt,
  stringAt,
  stringsAt,
  unsignedAt,
} from './spec-json.ts';

/** How an argument of a system call, 64 bits without a sign, is compared. */
export type SeccompOperator =
  | 'SCMP_CMP_NE'
  | 'SCMP_CMP_LT'
  | 'SCMP_CMP_LE'
  | 'SCMP_CMP_EQ'
  | 'SCMP_CMP_GE'
  | 'SCMP_CMP_GT'
  | 'SCMP_CMP_MASKED_EQ';

/** A condition on one argument. */
export type SeccompCondition = {
  /** 0 to 5. */
  readonly index: number;
  readonly operator: SeccompOperator;
  /** What is compared with; for SCMP_CMP_MASKED_EQ the mask. */
  readonly value: bigint;
  /** For SCMP_CMP_MASKED_EQ what the masked argument has to be. */
  readonly valueTwo: bigint;
};

/** What is answered to calls of these names, if all conditions hold. */
export type SeccompRule = {
  readonly names: readonly string[];
  /** As the kernel takes it (seccomp(2)). */
  readonly answer: number;
  readonly conditions: readonly SeccompCondition[];
};

/** The profile of `linux.seccomp` of a config.json. */
export type SeccompProfile = {
  readonly defaultAnswer: number;
  readonly rules: readonly SeccompRule[];
  /** Whether the kernel's log tells of calls that were refused (SECCOMP_FILTER_FLAG_LOG). */
  readonly isLogged: boolean;
};

/** errno where a profile names none. */
const defaultErrno = 1;

/** The kernel's MAX_ERRNO. */
const maxErrno = 4095;

/**
 * A Node process that has lost one of its threads hangs, which nobody is told of; so the engine ends where a profile has only
 * the calling thread end.
 */
const answers: ReadonlyMap<string, (errno: number) => number> = new Map([
  ['SCMP_ACT_KILL', () => callAnswers.killProcess],
  ['SCMP_ACT_KILL_THREAD', () => callAnswers.killProcess],
  ['SCMP_ACT_KILL_PROCESS', () => callAnswers.killProcess],
  ['SCMP_ACT_TRAP', () => callAnswers.trap],
  ['SCMP_ACT_ERRNO', callAnswers.fail],
  ['SCMP_ACT_TRACE', callAnswers.trace],
  ['SCMP_ACT_LOG', () => callAnswers.log],
  ['SCMP_ACT_ALLOW', () => callAnswers.allow],
]);

const operators: ReadonlySet<string> = new Set<SeccompOperator>([
  'SCMP_CMP_NE',
  'SCMP_CMP_LT',
  'SCMP_CMP_LE',
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_MASKED_EQ',
]);

const isOperator = (name: string): name is SeccompOperator => operators.has(name);

const architecture =
  /^SCMP_ARCH_(X86|X86_64|X32|ARM|AARCH64|MIPS(EL)?(64(N32)?)?|PPC(64(LE)?)?|RISCV64|S390X?|LOONGARCH64)$/;

const logFlag = 'SECCOMP_FILTER_FLAG_LOG';

/** Those of which nothing has to be done: the first always holds here, the second never does, the third is for agents. */
const otherFlags = [
  'SECCOMP_FILTER_FLAG_TSYNC',
  'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
  'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV',
];

/**
 * Reads a profile; undefined for an empty one, as runc has it. Throws `invalid-argument` naming the place of what is no profile,
 * `unsupported` for one that wants an agent asked.
 */
export function parseSeccomp(profile: JsonObject): SeccompProfile | undefined {
  const where = 'linux.seccomp';
  const list = listAt(profile.get('syscalls'), `${where}.syscalls`);
  if ((profile.get('defaultAction') ?? '') === '' && list.length === 0) return undefined;
  for (const [index, name] of stringsAt(profile.get('architectures'), `${where}.architectures`).entries()) {
    if (!architecture.test(name))
      throw invalid(`"${where}.architectures[${index}]" is "${name}", which is no architecture`);
  }
  const flags = stringsAt(profile.get('flags'), `${where}.flags`);
  for (const [index, name] of flags.entries()) {
    if (name !== logFlag && !otherFlags.includes(name))
      throw invalid(`"${where}.flags[${index}]" is "${name}", which is no flag of seccomp that is known`);
  }
  return {
    defaultAnswer: answerAt(profile, 'defaultAction', 'defaultErrnoRet', where),
    rules: list.flatMap((value, index) => rulesAt(value, `${where}.syscalls[${index}]`)),
    isLogged: flags.includes(logFlag),
  };
}

/** The rules of an entry: one, or one for each condition where two are on the same argument, of which one has to hold then. */
function rulesAt(value: unknown, where: string): readonly SeccompRule[] {
  const table = objectAt(value, where);
  const names = stringsAt(table.get('names'), `${where}.names`);
  if (names.includes('')) throw invalid(`"${where}.names" has an empty name`);
  const answer = answerAt(table, 'action', 'errnoRet', where);
  const conditions = listAt(table.get('args'), `${where}.args`).map((entry, index) =>
    conditionAt(entry, `${where}.args[${index}]`),
  );
  const indexes = new Set(conditions.map(({ index }) => index));
  if (indexes.size === conditions.length) return [{ names, answer, conditions }];
  return conditions.map((condition) => ({ names, answer, conditions: [condition] }));
}

function conditionAt(value: unknown, where: string): SeccompCondition {
  const table = objectAt(value, where);
  const index = numberAt(table.get('index'), `${where}.index`) ?? 0;
  if (index < 0 || index > 5)
    throw invalid(`"${where}.index" is ${index}; a system call has arguments 0 to 5`);
  const operator = stringAt(table.get('op'), `${where}.op`) ?? '';
  if (!isOperator(operator)) throw invalid(`"${where}.op" is "${operator}", which compares nothing`);
  return {
    index,
    operator,
    value: unsignedAt(table.get('value'), `${where}.value`) ?? 0n,
    valueTwo: unsignedAt(table.get('valueTwo'), `${where}.valueTwo`) ?? 0n,
  };
}

function answerAt(table: JsonObject, name: string, errnoName: string, where: string): number {
  const action = stringAt(table.get(name), `${where}.${name}`) ?? '';
  if (action === 'SCMP_ACT_NOTIFY')
    throw new ShimError(
      'unsupported',
      `the container's config.json: "${where}.${name}" is SCMP_ACT_NOTIFY, which is not supported in a Spin container: no agent is asked about its system calls`,
    );
  const answer = answers.get(action);
  if (answer === undefined)
    throw invalid(`"${where}.${name}" is "${action}", which is no action of a seccomp profile`);
  const errno = numberAt(table.get(errnoName), `${where}.${errnoName}`) ?? defaultErrno;
  if (errno < 0 || errno > maxErrno)
    throw invalid(`"${where}.${errnoName}" is ${errno}; an errno is 0 to ${maxErrno}`);
  return answer(errno);
}
