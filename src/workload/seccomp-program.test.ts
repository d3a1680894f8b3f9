import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { describeAnswer, runFilter } from '../../test/support/bpf.ts';
import { auditArchitectures, machine, systemCallNumber } from '../system-calls.ts';
import { parseSeccomp } from './seccomp-profile.ts';
import { seccompProgram } from './seccomp-program.ts';
import { parseSpec } from './spec.ts';

type Arguments = readonly (bigint | number)[];

/** A profile of `linux.seccomp` as a program; numbers above 2^53 are given as bigints. */
function compile(seccomp: object, on: 'x64' | 'arm64' = 'x64'): Buffer {
  const text = JSON.stringify({ linux: { seccomp } }, (_, value) =>
    typeof value === 'bigint' ? `${value}n` : value,
  ).replaceAll(/"(\d+)n"/g, '$1');
  const profile = parseSeccomp(parseSpec(text).seccomp);
  assert.ok(profile !== undefined);
  return seccompProgram(profile, on);
}

function decide(program: Buffer, name: string, args: Arguments = [], on: 'x64' | 'arm64' = 'x64'): string {
  const number = systemCallNumber(name, on) ?? assert.fail(`there is no ${name}`);
  const call = { number, args: args.map(BigInt), architecture: auditArchitectures[on] };
  return describeAnswer(runFilter(program, call));
}

const allow = (...names: string[]) => ({ names, action: 'SCMP_ACT_ALLOW' });
const refuseAll = { defaultAction: 'SCMP_ACT_ERRNO' };

test('what is named is answered as it says, everything else by the default', () => {
  const program = compile({
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 13,
    syscalls: [
      allow('read', 'write', 'mseal'),
      { names: ['close'], action: 'SCMP_ACT_ERRNO', errnoRet: 5 },
      { names: ['open'], action: 'SCMP_ACT_KILL_PROCESS' },
      { names: ['lseek'], action: 'SCMP_ACT_LOG' },
      { names: ['mmap'], action: 'SCMP_ACT_TRAP' },
      { names: ['brk'], action: 'SCMP_ACT_TRACE', errnoRet: 7 },
    ],
  });
  for (const [name, answer] of [
    ['read', 'allowed'],
    ['write', 'allowed'],
    ['open', 'killed'],
    ['close', 'errno 5'],
    ['stat', 'errno 13'],
    ['lseek', 'logged'],
    ['mmap', 'trapped'],
    ['brk', 'traced 7'],
    ['listmount', 'errno 13'],
    ['mseal', 'allowed'],
  ] as const)
    assert.equal(decide(program, name), answer, name);
});

test('every call of a large profile gets the answer of its own', () => {
  const names = [
    'read',
    'poll',
    'mmap',
    'ioctl',
    'socket',
    'wait4',
    'mkdir',
    'epoll_wait',
    'openat',
    'statx',
  ];
  const syscalls = names.map((name, index) => ({
    names: [name],
    action: 'SCMP_ACT_ERRNO',
    errnoRet: 100 + index,
  }));
  for (const on of ['x64', 'arm64'] as const) {
    const program = compile({ defaultAction: 'SCMP_ACT_ALLOW', syscalls }, on);
    const wanted = new Map(names.map((name, index) => [systemCallNumber(name, on), `errno ${100 + index}`]));
    for (let number = 0; number < 600; number += 1) {
      const call = { number, architecture: auditArchitectures[on] };
      const answer = describeAnswer(runFilter(program, call));
      assert.equal(answer, wanted.get(number) ?? 'allowed', `${on} ${number}`);
    }
  }
});

test('names that the machine does not have are left out', () => {
  const program = compile(
    { ...refuseAll, syscalls: [allow('no_such_call', 'open', 'openat', 'statx')] },
    'arm64',
  );
  assert.equal(decide(program, 'openat', [], 'arm64'), 'allowed');
  assert.equal(decide(program, 'read', [], 'arm64'), 'errno 1');
});

test('calls of another machine end the process', () => {
  const program = compile({ ...refuseAll, architectures: ['SCMP_ARCH_X86'], syscalls: [allow('read')] });
  const call = { number: 0, architecture: auditArchitectures.arm64 };
  assert.equal(describeAnswer(runFilter(program, call)), 'killed');
  assert.equal(decide(program, 'read'), 'allowed');
});

test('calls newer than all that are named do not exist, unless the default lets them pass', () => {
  const strict = compile({ ...refuseAll, syscalls: [allow('openat2')] });
  assert.equal(decide(strict, 'faccessat2'), 'errno 38');
  assert.equal(decide(strict, 'pidfd_open'), 'errno 1');
  const lax = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ ...allow('read'), action: 'SCMP_ACT_KILL' }] };
  assert.equal(decide(compile(lax), 'faccessat2'), 'allowed');
});

test('clone3 is refused so that the C library does without', () => {
  assert.equal(decide(compile({ ...refuseAll, syscalls: [allow('mseal')] }), 'clone3'), 'errno 38');
  const named = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['clone3'], action: 'SCMP_ACT_ERRNO' }],
  };
  assert.equal(decide(compile(named), 'clone3'), 'errno 38');
  assert.equal(decide(compile({ ...refuseAll, syscalls: [allow('clone3', 'mseal')] }), 'clone3'), 'allowed');
  const killed = { defaultAction: 'SCMP_ACT_KILL', syscalls: [allow('mseal')] };
  assert.equal(decide(compile(killed), 'clone3'), 'killed');
});

const high = 0x1_0000_0005n;

for (const [op, value, valueTwo, passing, failing] of [
  ['SCMP_CMP_EQ', high, 0n, [high], [5n, high + 1n, 0x2_0000_0005n]],
  ['SCMP_CMP_NE', high, 0n, [5n, high + 1n, 0x2_0000_0005n], [high]],
  ['SCMP_CMP_GT', high, 0n, [high + 1n, 0x2_0000_0000n], [high, 6n, high - 1n]],
  ['SCMP_CMP_GE', high, 0n, [high, high + 1n, 0x2_0000_0000n], [6n, high - 1n]],
  ['SCMP_CMP_LT', high, 0n, [6n, high - 1n], [high, high + 1n, 0x2_0000_0000n]],
  ['SCMP_CMP_LE', high, 0n, [6n, high - 1n, high], [high + 1n, 0x2_0000_0000n]],
  [
    'SCMP_CMP_MASKED_EQ',
    0xf_0000_00f0n,
    0x3_0000_0050n,
    [0x3_0000_005fn, 0xf3_1234_0050n],
    [0x50n, 0x3_0000_0060n],
  ],
  ['SCMP_CMP_EQ', 2n ** 64n - 1n, 0n, [2n ** 64n - 1n], [2n ** 64n - 2n]],
  ['SCMP_CMP_EQ', 2n ** 63n + 1n, 0n, [2n ** 63n + 1n], [2n ** 63n]],
] as const) {
  test(`an argument is compared in its 64 bits: ${op} ${value}`, () => {
    const args = [{ index: 3, value, valueTwo, op }];
    const program = compile({ ...refuseAll, syscalls: [{ ...allow('write'), args }, allow('read')] });
    for (const given of passing)
      assert.equal(decide(program, 'write', [0, 0, 0, given]), 'allowed', String(given));
    for (const given of failing)
      assert.equal(decide(program, 'write', [0, 0, 0, given]), 'errno 1', String(given));
    assert.equal(decide(program, 'read'), 'allowed');
  });
}

describe('conditions', () => {
  const one = (index: number, value: number) => ({ index, value, op: 'SCMP_CMP_EQ' });
  const syscall = (...args: object[]) => ({ ...allow('write'), args });

  test('on different arguments have to hold all', () => {
    const program = compile({ ...refuseAll, syscalls: [syscall(one(0, 1), one(1, 2)), syscall(one(2, 3))] });
    assert.equal(decide(program, 'write', [1, 2]), 'allowed');
    assert.equal(decide(program, 'write', [1, 0]), 'errno 1');
    assert.equal(decide(program, 'write', [0, 2]), 'errno 1');
    assert.equal(decide(program, 'write', [0, 2, 3]), 'allowed');
  });

  test('on the same argument are read as rules of their own', () => {
    const program = compile({ ...refuseAll, syscalls: [syscall(one(0, 1), one(0, 2), one(1, 3))] });
    for (const args of [[1], [2], [0, 3]])
      assert.equal(decide(program, 'write', args), 'allowed', String(args));
    assert.equal(decide(program, 'write', [3, 1]), 'errno 1');
  });

  test('give way to a rule without', () => {
    const refused = { names: ['write'], action: 'SCMP_ACT_ERRNO', errnoRet: 9 };
    const program = compile({ ...refuseAll, syscalls: [syscall(one(0, 1)), refused, allow('write')] });
    assert.equal(decide(program, 'write', [1]), 'errno 9');
  });

  test('are tried in the order of the profile', () => {
    const refused = {
      names: ['write'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 9,
      args: [{ ...one(0, 5), op: 'SCMP_CMP_LE' }],
    };
    const program = compile({ ...refuseAll, syscalls: [syscall(one(0, 1)), refused] });
    assert.equal(decide(program, 'write', [1]), 'allowed');
    assert.equal(decide(program, 'write', [2]), 'errno 9');
    assert.equal(decide(program, 'write', [6]), 'errno 1');
  });
});

test('a profile of nothing is none', () => {
  assert.equal(parseSeccomp(parseSpec('{}').seccomp), undefined);
  assert.equal(parseSeccomp(parseSpec('{"linux":{"seccomp":{"architectures":[]}}}').seccomp), undefined);
});

for (const [what, profile, code, message] of [
  [
    'action',
    { defaultAction: 'SCMP_ACT_PERHAPS' },
    'invalid-argument',
    /"linux\.seccomp\.defaultAction" is "SCMP_ACT_PERHAPS"/,
  ],
  ['default', { syscalls: [allow('read')] }, 'invalid-argument', /"linux\.seccomp\.defaultAction" is ""/],
  [
    'agent',
    { ...refuseAll, syscalls: [{ names: ['read'], action: 'SCMP_ACT_NOTIFY' }] },
    'unsupported',
    /syscalls\[0\]\.action" is SCMP_ACT_NOTIFY.*no agent/,
  ],
  [
    'architecture',
    { ...refuseAll, architectures: ['SCMP_ARCH_VAX'] },
    'invalid-argument',
    /architectures\[0\]" is "SCMP_ARCH_VAX"/,
  ],
  [
    'flag',
    { ...refuseAll, flags: ['SECCOMP_FILTER_FLAG_NEW'] },
    'invalid-argument',
    /flags\[0\]" is "SECCOMP_FILTER_FLAG_NEW"/,
  ],
  [
    'name',
    { ...refuseAll, syscalls: [allow('')] },
    'invalid-argument',
    /syscalls\[0\]\.names" has an empty name/,
  ],
  [
    'operator',
    { ...refuseAll, syscalls: [{ ...allow('read'), args: [{ index: 0, op: 'IS' }] }] },
    'invalid-argument',
    /args\[0\]\.op" is "IS"/,
  ],
  [
    'argument',
    { ...refuseAll, syscalls: [{ ...allow('read'), args: [{ index: 6, op: 'SCMP_CMP_EQ' }] }] },
    'invalid-argument',
    /args\[0\]\.index" is 6/,
  ],
  ['errno', { ...refuseAll, defaultErrnoRet: 4096 }, 'invalid-argument', /defaultErrnoRet" is 4096/],
  [
    'table',
    { ...refuseAll, syscalls: 'read' },
    'invalid-argument',
    /linux\.seccomp\.syscalls" is not a list/,
  ],
] as const) {
  test(`a profile with a wrong ${what} is told of`, () => {
    assert.throws(() => compile(profile), { code, message });
  });
}

test('a profile that is too large for the kernel is told of', () => {
  const syscalls = Array.from({ length: 1000 }, (_, value) => ({
    ...allow('write'),
    args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }],
  }));
  assert.throws(() => compile({ ...refuseAll, syscalls }), {
    code: 'invalid-argument',
    message: /takes 50\d\d instructions; the kernel takes 4096/,
  });
});

test('flags are read', () => {
  const isLogged = (flags: readonly string[]): boolean | undefined =>
    parseSeccomp(parseSpec(JSON.stringify({ linux: { seccomp: { ...refuseAll, flags } } })).seccomp)
      ?.isLogged;
  assert.equal(isLogged(['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW']), false);
  assert.equal(isLogged(['SECCOMP_FILTER_FLAG_LOG']), true);
});

test('the kernel decides as the program says', async () => {
  // getpriority, an id of a user that is not asked for by anybody else, of every operator.
  const operators = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'] as const;
  const value = 0x7_0000_1234n;
  const syscalls = [
    ...operators.map((name, index) => ({
      names: ['getpriority'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 100 + index,
      args: [
        { index: 2, value: index, op: 'SCMP_CMP_EQ' },
        { index: 3, value, valueTwo: 0x1_0000_1030n, op: `SCMP_CMP_${name}` },
      ],
    })),
    { names: ['vhangup'], action: 'SCMP_ACT_ERRNO', errnoRet: 77 },
  ];
  const program = compile({ defaultAction: 'SCMP_ACT_ALLOW', syscalls }, machine);
  const number = systemCallNumber('getpriority', machine) ?? 0;
  const values = [
    0n,
    value,
    value - 1n,
    value + 1n,
    0x1234n,
    0x1_0000_1030n,
    0x9_0000_1234n,
    2n ** 63n,
    2n ** 64n - 1n,
  ];
  const calls = operators.flatMap((_, index) =>
    values.map((given) => [0n, 0n, BigInt(index), given] as const),
  );
  const expected = calls.map((args) => {
    const answer = runFilter(program, { number, args, architecture: auditArchitectures[machine] });
    return answer === 0x7fff0000 ? 0 : answer & 0xffff;
  });
  assert.ok(
    new Set(expected).size === operators.length + 1,
    'every operator decides, and lets something pass',
  );
  const script = `
    import { dlopen, getInt32 } from 'node:ffi';
    import { installSeccompFilter, setNoNewPrivileges } from ${JSON.stringify(join(import.meta.dirname, '..', 'linux-rights.ts'))};
    const { functions: libc } = dlopen(null, {
      __errno_location: { arguments: [], return: 'pointer' },
      syscall: { arguments: ['int64', 'int64', 'int64', 'int64', 'int64'], return: 'int64' },
    });
    setNoNewPrivileges();
    installSeccompFilter(Buffer.from('${program.toString('base64')}', 'base64'));
    const results = [${calls.map((args) => `[${args.map((arg) => `${BigInt.asIntN(64, arg)}n`)}]`)}].map((args) =>
      libc.syscall(${number}n, ...args) >= 0n ? 0 : getInt32(libc.__errno_location()),
    );
    process.stdout.write(JSON.stringify(results));`;
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--no-warnings',
    '--input-type=module',
    '-e',
    script,
  ]);
  assert.deepEqual(JSON.parse(stdout), expected);
});
