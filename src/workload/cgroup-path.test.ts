import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cgroupPathOf } from './cgroup-path.ts';

test('a path is taken below the root', () => {
  assert.deepEqual(cgroupPathOf('/kubepods/burstable/pod1/abc', 'abc'), {
    path: '/kubepods/burstable/pod1/abc',
  });
  assert.deepEqual(cgroupPathOf('docker/abc', 'abc'), { path: '/docker/abc' });
});

test('an empty path becomes one of the id', () => {
  assert.deepEqual(cgroupPathOf('', 'abc'), { path: '/abc' });
});

test('a path cannot climb above the root', () => {
  assert.deepEqual(cgroupPathOf('/../../a/../b', 'abc'), { path: '/b' });
  assert.throws(() => cgroupPathOf('/..', 'abc'), { code: 'invalid-argument' });
});

test('the systemd form is a scope in its nested slices', () => {
  assert.deepEqual(cgroupPathOf('kubepods-burstable-pod1.slice:cri-containerd:abc', 'abc'), {
    path: '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope',
    unit: { slice: 'kubepods-burstable-pod1.slice', scope: 'cri-containerd-abc.scope' },
  });
});

test('the systemd form without slice or prefix has defaults', () => {
  assert.equal(cgroupPathOf(':docker:abc', 'abc').path, '/system.slice/docker-abc.scope');
  assert.equal(cgroupPathOf('-.slice::abc', 'abc').path, '/abc.scope');
});

for (const wrong of [
  'a:b',
  'a:b:c:d',
  'a.slice:b:',
  'a:b:c',
  'a--b.slice:p:n',
  'a.slice:../x:n',
  'a.slice:p:../n',
]) {
  test(`"${wrong}" is refused`, () => {
    assert.throws(() => cgroupPathOf(wrong, 'abc'), { code: 'invalid-argument' });
  });
}
