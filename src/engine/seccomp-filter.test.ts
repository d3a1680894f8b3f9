import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeAnswer, runFilter } from '../../test/support/bpf.ts';
import { bpf, callAnswers, encodeBpf } from '../bpf.ts';
import { auditArchitectures } from '../system-calls.ts';
import { seccompFilter, sparingRings } from './seccomp-filter.ts';

type Call = { readonly number: number; readonly first?: number; readonly architecture?: number };

const pid = 4321;
const allowed = 'allowed';

function decide(
  filter: Uint8Array,
  { number, first = 0, architecture = auditArchitectures.x64 }: Call,
): string {
  return describeAnswer(runFilter(filter, { number, args: [BigInt(first)], architecture }));
}

const filter = seccompFilter({ pid, arch: 'x64', hasRings: true });

for (const [what, call, answer] of [
  ['read', { number: 0 }, allowed],
  ['openat2', { number: 437 }, allowed],
  ['the last known call', { number: 462 }, allowed],
  ['one that came later', { number: 463 }, 'errno 38'],
  ['one of the x32 convention', { number: 0x40000000 }, 'errno 38'],
  ['one of another architecture', { number: 0, architecture: 0x40000003 }, 'killed'],
  ['execve', { number: 59 }, 'errno 1'],
  ['setns', { number: 308 }, 'errno 1'],
  ['mq_unlink, the last of the list', { number: 241 }, 'errno 1'],
  ['clone3', { number: 435 }, 'errno 38'],
  ['clone of a thread', { number: 56, first: 0x3d0f00 }, allowed],
  ['clone of a process', { number: 56, first: 17 }, 'errno 1'],
  ['clone with a new user namespace', { number: 56, first: 0x10000000 }, 'errno 1'],
  ['a local socket', { number: 41, first: 1 }, 'errno 97'],
  ['an IPv4 socket', { number: 41, first: 2 }, allowed],
  ['an IPv6 socket', { number: 41, first: 10 }, allowed],
  ['a netlink socket', { number: 41, first: 16 }, 'errno 97'],
  ['a signal to itself', { number: 234, first: pid }, allowed],
  ['a signal to another process', { number: 62, first: 1 }, 'errno 1'],
  ['a signal to all processes', { number: 62, first: 0xffffffff }, 'errno 1'],
  ['limits of its own', { number: 302, first: 0 }, allowed],
  ['limits of another process', { number: 302, first: 1 }, 'errno 1'],
  ['a ring there is', { number: 426 }, allowed],
  ['another ring', { number: 425 }, 'errno 38'],
] as const) {
  test(`${what}: ${answer}`, () => assert.equal(decide(filter, call), answer));
}

test('a process without rings may use none', () => {
  const without = seccompFilter({ pid, arch: 'x64', hasRings: false });
  assert.equal(decide(without, { number: 426 }), 'errno 38');
});

test("a pod's profile spares the rings there are, and nothing else", () => {
  const sparing = sparingRings(encodeBpf([[bpf.give, callAnswers.fail(1)]]), 'x64');
  assert.equal(decide(sparing, { number: 426 }), allowed);
  for (const call of [
    { number: 425 },
    { number: 427 },
    { number: 0 },
    { number: 426, architecture: 0x40000003 },
  ])
    assert.equal(decide(sparing, call), 'errno 1');
});

test('arm64 has numbers of its own', () => {
  const other = seccompFilter({ pid, arch: 'arm64', hasRings: false });
  const architecture = 0xc00000b7;
  assert.equal(decide(other, { number: 221, architecture }), 'errno 1');
  assert.equal(decide(other, { number: 59, architecture }), allowed);
  assert.equal(decide(other, { number: 198, first: 1, architecture }), 'errno 97');
  assert.equal(decide(other, { number: 59 }), 'killed');
});
