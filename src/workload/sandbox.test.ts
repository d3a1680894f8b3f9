import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pauseArguments } from './sandbox.ts';
import { needsLinuxSandbox, networkOf, roleOf, SandboxRegistry } from './sandbox-registry.ts';
import { parseSpec, type Spec } from './spec.ts';

function specWith(namespaces: readonly object[], more: object = {}): Spec {
  return parseSpec(
    JSON.stringify({ hostname: 'pod', linux: { namespaces, sysctl: { 'net.a': '1' } }, ...more }),
  );
}

test('a pod with namespaces of its own', () => {
  const spec = specWith(
    [{ type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'network', path: '/ns/net' }],
    {
      process: { user: { uid: 65535, gid: 65535 } },
    },
  );
  assert.deepEqual(pauseArguments(spec), [
    ...['pause', '-hostname', 'pod', '-net', 'path:/ns/net', '-ipc', 'new', '-uts', 'new', '-pid', 'new'],
    ...['-user', '65535', '-group', '65535', '-sysctl', 'net.a=1'],
  ]);
});

test("a pod on the node's namespaces does not rename the node", () => {
  const args = pauseArguments(specWith([{ type: 'ipc' }]));
  assert.deepEqual(args.slice(0, 9), [
    'pause',
    '-net',
    'host',
    '-ipc',
    'new',
    '-uts',
    'host',
    '-pid',
    'host',
  ]);
});

test('the annotations tell a sandbox from a container', () => {
  const annotated = (annotations: object): Spec => specWith([], { annotations });
  assert.deepEqual(roleOf(annotated({ 'io.kubernetes.cri.container-type': 'sandbox' })), { kind: 'sandbox' });
  assert.deepEqual(roleOf(annotated({ 'io.kubernetes.cri.sandbox-id': 'p' })), {
    kind: 'container',
    sandboxId: 'p',
  });
  assert.deepEqual(roleOf(annotated({})), { kind: 'container', sandboxId: undefined });
});

test('a container is in the network of its pod, else in that of its specification', () => {
  const registry = new SandboxRegistry();
  const container = specWith([{ type: 'network', path: '/proc/7/ns/net' }]);
  registry.add('cni', specWith([{ type: 'network', path: '/ns/net' }]), 7);
  registry.add('own', specWith([{ type: 'network' }]), 8);
  registry.add('host', specWith([]), 9);
  assert.deepEqual(registry.networkFor(container, 'cni'), { kind: 'path', path: '/ns/net' });
  assert.deepEqual(registry.networkFor(container, 'own'), { kind: 'path', path: '/proc/8/ns/net' });
  assert.deepEqual(registry.networkFor(container, 'host'), { kind: 'host' });
  registry.delete('cni');
  assert.deepEqual(registry.networkFor(container, 'cni'), { kind: 'path', path: '/proc/7/ns/net' });
  assert.deepEqual(networkOf(specWith([{ type: 'network' }])), { kind: 'new' });
});

test('a sandbox is run from its image where ours cannot serve, and where the pod says so', () => {
  assert.equal(needsLinuxSandbox(specWith([{ type: 'pid' }])), false);
  assert.equal(needsLinuxSandbox(specWith([{ type: 'user' }])), true);
  assert.equal(needsLinuxSandbox(specWith([], { annotations: { 'spin.shim/sandbox': 'runc' } })), true);
  assert.equal(needsLinuxSandbox(specWith([], { annotations: { 'spin.shim/sandbox': 'own' } })), false);
});
