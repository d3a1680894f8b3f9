import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseResources, parseSpec } from './spec.ts';
import { specLimits } from './spec-json.ts';

test('the parts that are acted on are read', () => {
  const spec = parseSpec(
    JSON.stringify({
      process: { args: ['/'], env: ['A=1', 'B=x=y', 'C'], cwd: '/w', user: { uid: 1000, gid: 7 } },
      root: { path: '/r' },
      hostname: 'h',
      mounts: [{ destination: '/etc/hosts', type: 'bind', source: '/s', options: ['ro'] }],
      annotations: { ['__proto__']: 'x', 'io.kubernetes.cri.container-type': 'sandbox' },
      hooks: {
        createRuntime: [{ path: '/h', args: ['h', 'x'], env: ['A=1'], timeout: 5 }],
        poststop: [{ path: '/p' }],
      },
      linux: {
        cgroupsPath: '/a/b',
        namespaces: [{ type: 'network', path: '/n' }, { type: 'pid' }, { type: 'ipc', path: '' }],
        resources: { memory: { limit: 5 }, cpu: { shares: 2, quota: -1, period: 100000 } },
        sysctl: { 'net.x': '1' },
      },
    }),
  );
  assert.deepEqual(spec.env, [
    ['A', '1'],
    ['B', 'x=y'],
    ['C', ''],
  ]);
  assert.deepEqual([spec.uid, spec.gid, spec.cwd, spec.rootPath, spec.hostname], [1000, 7, '/w', '/r', 'h']);
  assert.deepEqual(spec.namespaces, [{ type: 'network', path: '/n' }, { type: 'pid' }, { type: 'ipc' }]);
  assert.deepEqual(spec.resources, { memoryLimit: 5, cpuShares: 2, cpuQuota: -1, cpuPeriod: 100000 });
  assert.equal(spec.annotations.get('io.kubernetes.cri.container-type'), 'sandbox');
  assert.deepEqual(spec.sysctl, [['net.x', '1']]);
  const { createRuntime, poststop, prestart } = spec.hooks;
  assert.deepEqual(createRuntime, [{ path: '/h', args: ['h', 'x'], env: [['A', '1']], timeoutSeconds: 5 }]);
  assert.deepEqual([poststop, prestart], [[{ path: '/p', args: [], env: [] }], []]);
});

test('what is missing has a default', () => {
  const spec = parseSpec('{}');
  assert.deepEqual([spec.cwd, spec.rootPath, spec.cgroupsPath, spec.uid], ['/', 'rootfs', '', 0]);
  assert.deepEqual(spec.resources, {});
});

const wrong: readonly (readonly [string, RegExp])[] = [
  ['{', /not JSON/],
  ['[]', /"the document" is not a table/],
  ['{"process":{"args":"x"}}', /"process\.args" is not a list/],
  ['{"process":{"args":[1]}}', /"process\.args\[0\]" is not a string/],
  ['{"process":{"user":{"uid":1.5}}}', /"process\.user\.uid" is not a whole number/],
  ['{"mounts":[{"source":3}]}', /"mounts\[0\]\.source" is not a string/],
  ['{"hostname":"a\\u0000"}', /"hostname" holds a NUL byte/],
  ['{"linux":{"namespaces":[{}]}}', /no "linux\.namespaces\[0\]\.type"/],
  ['{"linux":{"namespaces":[{"type":"pid","path":"x"}]}}', /not an absolute path/],
  ['{"hooks":{"poststop":[{"path":"x"}]}}', /"hooks\.poststop\[0\]\.path" is "x", not an absolute path/],
  ['{"annotations":{"a":1}}', /an entry of "annotations"/],
];
for (const [text, message] of wrong) {
  test(`${text} is refused`, () => {
    assert.throws(() => parseSpec(text), { code: 'invalid-argument', message });
  });
}

test('lists are bounded', () => {
  const env = (length: number): string => JSON.stringify({ process: { env: new Array(length).fill('A=1') } });
  assert.equal(parseSpec(env(specLimits.maxEntries)).env.length, specLimits.maxEntries);
  assert.throws(() => parseSpec(env(specLimits.maxEntries + 1)), /at most 10000 are read/);
});

test('the document is bounded', () => {
  assert.throws(() => parseSpec(' '.repeat(specLimits.maxBytes + 1)), /at most 4194304 are read/);
});

test('the resources of an update are read alone', () => {
  assert.deepEqual(parseResources('{"pids":{"limit":9},"memory":{"swap":8}}'), {
    memorySwap: 8,
    pidsLimit: 9,
  });
});

test('the files of a version 2 cgroup are read, and no others', () => {
  const { unified } = parseResources('{"unified":{"memory.oom.group":"1","memory.high":"max"}}');
  assert.deepEqual(unified, [
    ['memory.oom.group', '1'],
    ['memory.high', 'max'],
  ]);
  for (const file of ['../memory.max', 'memory.max/..', 'memory', '.', '']) {
    assert.throws(() => parseResources(JSON.stringify({ unified: { [file]: '1' } })), {
      code: 'invalid-argument',
      message: /names no cgroup file/,
    });
  }
});
