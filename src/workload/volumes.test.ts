import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { App, Component } from '../app/types.ts';
import { filesAnnotation } from './annotations.ts';
import { parseSpec } from './spec.ts';
import { grantVolumes, maxFileGrants, volumesOf } from './volumes.ts';

function appOf(files: Component['files'] = []): App {
  const component = {
    source: { path: '/none', digest: `sha256:${'0'.repeat(64)}` },
    environment: [],
    variables: [],
    allowedOutboundHosts: [],
    keyValueStores: [],
    sqliteDatabases: [],
    aiModels: [],
  };
  return {
    name: 'sample',
    variables: [],
    triggers: [],
    components: [
      { ...component, id: 'web', files },
      { ...component, id: 'api', files: [] },
    ],
  };
}

const volumes = volumesOf(
  parseSpec(
    JSON.stringify({
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        { destination: '/dev/shm', type: 'bind', source: '/run/shm', options: ['rbind'] },
        { destination: '/etc/config/', type: 'bind', source: '/pods/1/config', options: ['rbind', 'ro'] },
        { destination: '/data', type: 'bind', source: '/pods/1/data', options: ['rbind', 'rw'] },
        { destination: '/data/inner', type: 'bind', source: '/pods/1/inner', options: ['rbind'] },
        { destination: '/all', type: 'bind', source: '/pods/1/all', options: ['rbind', 'rw', 'rro'] },
      ],
    }),
  ),
);

function granted(annotation: string): readonly object[] {
  return grantVolumes(appOf(), '/rootfs', volumes, annotation).grants;
}

test('volumes are the mounts with a source on the node, those for programs left out', () => {
  assert.deepEqual(volumes, [
    { source: '/pods/1/config', destination: '/etc/config', writable: false },
    { source: '/pods/1/data', destination: '/data', writable: true },
    { source: '/pods/1/inner', destination: '/data/inner', writable: true },
    { source: '/pods/1/all', destination: '/all', writable: false },
  ]);
});

test('without an annotation nothing is granted', () => {
  assert.deepEqual(grantVolumes(appOf(), '/rootfs', volumes, undefined), { app: appOf(), grants: [] });
});

test('the annotation grants a volume or a folder in it, read-only unless it says so', () => {
  assert.deepEqual(granted('web:/etc/config, api:/data/a/b:/seen:rw,api:/data/inner:rw,'), [
    { component: 'web', source: '/pods/1/config', below: '', destination: '/etc/config', writable: false },
    { component: 'api', source: '/pods/1/data', below: 'a/b', destination: '/seen', writable: true },
    { component: 'api', source: '/pods/1/inner', below: '', destination: '/data/inner', writable: true },
  ]);
});

test('a folder of the image in which a volume is mounted shows the volume', () => {
  const own = { source: '/rootfs/static', destination: '/static' };
  const mounted = { source: '/rootfs/data/x', destination: '/data' };
  const { app, grants } = grantVolumes(appOf([own, mounted]), '/rootfs', volumes, undefined);
  assert.deepEqual(app.components[0]?.files, [own]);
  assert.deepEqual(grants, [
    { component: 'web', source: '/pods/1/data', below: 'x', destination: '/data', writable: false },
  ]);
});

for (const [annotation, reason] of [
  ['web', /entry "web"/],
  ['web:data', /"data" is no absolute path/],
  ['web:/data/../etc', /no absolute path without "\.\."/],
  ['web:/data:seen', /"seen" is no absolute path/],
  ['web:/data:/a:/b', /expected COMPONENT/],
  [':/data', /expected COMPONENT/],
  ['other:/data', /component "other".*has "web", "api"/],
  ['web:/dat', /no volume mounted: it has "\/etc\/config", "\/data", "\/data\/inner"/],
  ['web:/etc/config:rw', /mounts read-only: drop ":rw"/],
  [new Array(maxFileGrants + 1).fill('web:/data').join(), /at most 64/],
] as const) {
  test(`"${annotation.slice(0, 40)}" is refused`, () => {
    assert.throws(() => granted(annotation), { code: 'invalid-argument', message: reason });
    assert.throws(() => granted(annotation), { message: new RegExp(filesAnnotation) });
  });
}

test('as many as are allowed are read', () => {
  assert.equal(granted(new Array(maxFileGrants).fill('web:/data').join()).length, maxFileGrants);
});
