import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOptions, runcOptionsOf, startInput } from './linux-options.ts';
import type { AnyMessage } from './messages.ts';
import { anyCodec, bootstrapCodec } from './options.ts';
import { ProtoFile } from './proto-file.ts';

const codec = new ProtoFile('runc_options.proto').message<object>('containerd.runc.v1.Options');
const container = { id: 'c1', groupName: 'pod', namespace: 'k8s.io', ttrpcAddress: '/host.sock' };
const ours: AnyMessage = { type_url: 'runtimeoptions.v1.Options', value: Buffer.from('\x12\x02/c') };

function optionsIn(any: AnyMessage | null | undefined): object {
  assert.equal(any?.type_url, 'containerd.runc.v1.Options');
  return codec.deserialize(Buffer.from(any?.value ?? []));
}

test('what the node says of its Linux runtime is passed on, the rest is not', () => {
  const configBody = 'SystemdCgroup = true\nBinaryName = "/usr/bin/crun"\nRoot = "/run/x"\nOther = 1\n';
  const options = { systemdCgroup: true, binaryName: '/usr/bin/crun', root: '/run/x' };
  assert.deepEqual(runcOptionsOf({ configBody, systemdCgroup: true }, false), options);
  assert.deepEqual(runcOptionsOf({ configBody: 'BinaryName = 1\nRoot = "relative"' }, false), {});
  assert.deepEqual(runcOptionsOf({ configBody: 'no toml' }, false), {});
});

test('the form of the cgroup path decides where the options are silent', () => {
  assert.deepEqual(runcOptionsOf({}, true), { systemdCgroup: true });
  assert.deepEqual(runcOptionsOf({}, false), {});
  assert.deepEqual(runcOptionsOf({ systemdCgroup: false }, true), {});
});

test('standard input is nothing or an Any before containerd 2.3', () => {
  assert.equal(startInput(Buffer.alloc(0), container, {}).length, 0);
  const bytes = Buffer.from(anyCodec.serialize(ours));
  assert.equal(startInput(bytes, container, {}).length, 0, 'the Linux shim knows no such options');
  const any = anyCodec.deserialize(Buffer.from(startInput(bytes, container, { systemdCgroup: true })));
  assert.deepEqual(optionsIn(any), { binaryName: '', root: '', systemdCgroup: true });
});

test('bootstrap parameters stay what they are but for the options', () => {
  const parameters = {
    instanceId: 'c1',
    namespace: 'k8s.io',
    logLevel: -4,
    containerdVersion: '2.3.0',
    containerdTtrpcAddress: '/c.ttrpc',
    containerdGrpcAddress: '/c',
    containerdBinary: '/bin/containerd',
    socketDir: '/run/s',
  };
  const bytes = Buffer.from(bootstrapCodec.serialize({ ...parameters, extensions: [{ value: ours }] }));
  const plain = bootstrapCodec.deserialize(Buffer.from(startInput(bytes, container, {})));
  assert.deepEqual(plain, {
    ...parameters,
    instanceId: 'pod',
    containerdTtrpcAddress: '/host.sock',
    extensions: [],
  });
  const { extensions } = bootstrapCodec.deserialize(
    Buffer.from(startInput(bytes, container, { binaryName: '/usr/bin/crun' })),
  );
  assert.deepEqual(optionsIn(extensions[0]?.value), {
    binaryName: '/usr/bin/crun',
    root: '',
    systemdCgroup: false,
  });
});

test("a client's own options of the Linux runtime are passed on as they are", () => {
  // A cgroup for the shim itself, which is nothing that we read.
  const own = { type_url: 'containerd.runc.v1.Options', value: Buffer.from('\x1a\x02/s') };
  const options = { systemdCgroup: true };
  const plain = startInput(Buffer.from(anyCodec.serialize(own)), container, options);
  assert.deepEqual(anyCodec.deserialize(Buffer.from(plain)), own);
  const parameters = { instanceId: 'c1', namespace: 'k8s.io', extensions: [{ value: own }] };
  const bytes = Buffer.from(bootstrapCodec.serialize({ ...parameters, containerdTtrpcAddress: '' }));
  const { extensions } = bootstrapCodec.deserialize(Buffer.from(startInput(bytes, container, options)));
  assert.deepEqual(extensions, [{ value: own }]);
});

test('the options of a Create are ours, and before them those of the Linux shim that it has', () => {
  assert.equal(createOptions(null, {}), null);
  assert.equal(createOptions(ours, {}), null);
  const systemd = { binaryName: '', root: '', systemdCgroup: true };
  assert.deepEqual(optionsIn(createOptions(ours, { systemdCgroup: true })), systemd);
  const given = { type_url: 'x/containerd.runc.v1.Options', value: codec.serialize({ root: '/theirs' }) };
  const merged = createOptions(given, { systemdCgroup: true, root: '/ours' });
  assert.equal(merged?.type_url, given.type_url);
  assert.deepEqual(codec.deserialize(Buffer.from(merged?.value ?? [])), { ...systemd, root: '/theirs' });
  assert.deepEqual(createOptions(given, {}), { ...given, value: Buffer.from(given.value) });
});
