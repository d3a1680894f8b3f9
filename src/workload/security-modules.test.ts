import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { appArmorProfileOf, labelsOf } from './security-modules.ts';
import { parseSpec } from './spec.ts';

/** A folder with files as sysfs shows them. */
function sysfs(t: TestContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'sys-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const asking = parseSpec(
  '{"process":{"apparmorProfile":"pods","selinuxLabel":"system_u:object_r:pods_t:s0"}}',
);
const notAsking = parseSpec('{"process":{}}');
const enabled = 'module/apparmor/parameters/enabled';
const profiles = 'kernel/security/apparmor/profiles';

test('a container that asks for nothing runs everywhere', (t) => {
  for (const sys of [sysfs(t, {}), sysfs(t, { [enabled]: 'Y\n', 'fs/selinux/enforce': '1' })]) {
    assert.equal(appArmorProfileOf(notAsking, sys), undefined);
    assert.equal(labelsOf(notAsking, sys), undefined);
  }
});

test('an AppArmor profile is taken where it is loaded', (t) => {
  const sys = sysfs(t, { [enabled]: 'Y\n', [profiles]: 'other (enforce)\npods (enforce)\n' });
  assert.equal(appArmorProfileOf(asking, sys), 'pods');
});

for (const [what, files, message] of [
  ['has no AppArmor', {}, /"pods", and this node has no AppArmor/],
  ['has it off', { [enabled]: 'N\n' }, /"pods", and this node has no AppArmor/],
  [
    'does not have the profile',
    { [enabled]: 'Y\n', [profiles]: 'podsandmore (enforce)\n' },
    /not loaded on this node/,
  ],
] as const) {
  test(`an AppArmor profile is refused where the node ${what}`, (t) => {
    const sys = sysfs(t, files);
    assert.throws(() => appArmorProfileOf(asking, sys), { code: 'failed-precondition', message });
  });
}

test('a name that is no plain one is left to the kernel', (t) => {
  const sys = sysfs(t, { [enabled]: 'Y\n', [profiles]: '' });
  for (const appArmorProfile of [':tenant:pods', 'pods//&more', 'unconfined'])
    assert.equal(appArmorProfileOf({ appArmorProfile }, sys), appArmorProfile);
});

const label = 'system_u:object_r:pods_t:s0';

test('an SELinux label is taken where the policy has it, with that of the files', (t) => {
  const sys = sysfs(t, { 'fs/selinux/enforce': '1', 'fs/selinux/context': '' });
  assert.deepEqual(labelsOf(asking, sys), { process: label, files: undefined });
  assert.equal(readFileSync(join(sys, 'fs/selinux/context'), 'utf8'), label);
  const mountLabel = 'system_u:object_r:files_t:s0:c1,c2';
  assert.deepEqual(labelsOf({ selinuxLabel: label, mountLabel }, sys), { process: label, files: mountLabel });
});

test('an SELinux label is refused where the node has no SELinux, or the policy does not have it', (t) => {
  assert.throws(() => labelsOf(asking, sysfs(t, {})), {
    code: 'failed-precondition',
    message: /"system_u:object_r:pods_t:s0", and this node has no SELinux/,
  });
  const sys = sysfs(t, { 'fs/selinux/enforce': '1' });
  // A file of the kernel's that takes numbers, and answers all else as SELinux answers a label that it does not know.
  symlinkSync('/proc/self/oom_score_adj', join(sys, 'fs/selinux/context'));
  assert.throws(() => labelsOf(asking, sys), {
    code: 'failed-precondition',
    message: /"system_u:object_r:pods_t:s0", which is not in this node's policy/,
  });
});

test('a label that may not be asked about is left to the kernel', (t) => {
  const sys = sysfs(t, { 'fs/selinux/enforce': '1' });
  assert.deepEqual(labelsOf(asking, sys), { process: label, files: undefined });
});
