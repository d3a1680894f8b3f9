import assert from 'node:assert/strict';
import { test } from 'node:test';
import { securityOf } from './security-context.ts';
import { parseSpec, type Spec } from './spec.ts';

function specOf(process: object, linux: object = {}): Spec {
  return parseSpec(JSON.stringify({ process, linux }));
}

const defaults = { effective: ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_NET_RAW', 'CAP_SYS_ADMIN'] };

test('ids and groups are those of the spec, each group once', () => {
  const user = { uid: 1000, gid: 7, additionalGids: [7, 2000, 2000] };
  const { security } = securityOf(specOf({ user }), false);
  assert.deepEqual([security.uid, security.gid, security.groups], [1000, 7, [7, 2000]]);
});

test('in a user namespace they are what the node calls them', () => {
  const mapping = [
    { containerID: 0, hostID: 100_000, size: 1_000 },
    { containerID: 1_000, hostID: 500_000, size: 10 },
  ];
  const linux = { uidMappings: mapping, gidMappings: mapping };
  const idsOf = (uid: number, gid: number): readonly number[] => {
    const { security } = securityOf(specOf({ user: { uid, gid } }, linux), false);
    return [security.uid, security.gid];
  };
  assert.deepEqual(idsOf(0, 999), [100_000, 100_999]);
  assert.deepEqual(idsOf(1_000, 1_009), [500_000, 500_009]);
  assert.throws(() => idsOf(1_010, 0), { code: 'invalid-argument', message: /user 1010 .*below 1010/ });
  assert.throws(() => idsOf(0, 1_010), { code: 'invalid-argument', message: /group 1010/ });
});

test('capabilities stay for volumes only, and of them those that bear on files', () => {
  const root = specOf({ user: { uid: 0 }, capabilities: defaults });
  assert.deepEqual(securityOf(root, true).security.capabilities, [0, 1]);
  assert.deepEqual(securityOf(root, false).security.capabilities, []);
  const user = specOf({ user: { uid: 1 }, capabilities: { ...defaults, ambient: ['CAP_FOWNER'] } });
  assert.deepEqual(securityOf(user, true).security.capabilities, [3]);
});

test('in a user namespace no capability stays: it would be one over the files of the node', () => {
  const mapping = [{ containerID: 0, hostID: 100_000, size: 1_000 }];
  const process = { user: { uid: 0 }, capabilities: { ...defaults, ambient: defaults.effective } };
  const spec = specOf(process, { uidMappings: mapping, gidMappings: mapping });
  assert.deepEqual(securityOf(spec, true).security.capabilities, []);
});

test('limits are passed on; what is not applied is told', () => {
  const rlimits = [
    { type: 'RLIMIT_NOFILE', soft: 10, hard: 18_446_744_073_709_551_615n.toString() },
    { type: 'RLIMIT_AS', soft: 1, hard: 1 },
    { type: 'RLIMIT_NEW', soft: 1, hard: 1 },
  ];
  // The unlimited value is a number in JSON, of more digits than JavaScript's have.
  const text = JSON.stringify({ process: { rlimits } }).replace(/"(\d+)"/, '$1');
  const { security, warnings } = securityOf(parseSpec(text), false);
  assert.deepEqual(security.limits, [{ resource: 7, soft: 10n, hard: 2n ** 64n - 1n }]);
  assert.equal(warnings.length, 2);
  assert.match(warnings[0] ?? '', /RLIMIT_AS is not applied.*resources\.limits\.memory/);
  assert.match(warnings[1] ?? '', /"RLIMIT_NEW" is not known/);
});

for (const [what, process] of [
  ['user', { user: { uid: -1 } }],
  ['group', { user: { gid: 4_294_967_295 } }],
  ['additional group', { user: { additionalGids: [-5] } }],
] as const) {
  test(`a ${what} id that is none is refused`, () => {
    assert.throws(() => specOf(process), { code: 'invalid-argument', message: /is no id/ });
  });
}

test('a negative limit is refused', () => {
  const rlimits = [{ type: 'RLIMIT_NOFILE', soft: -1, hard: 1 }];
  assert.throws(() => specOf({ rlimits }), { message: /process\.rlimits\[0\]\.soft" is negative/ });
});
