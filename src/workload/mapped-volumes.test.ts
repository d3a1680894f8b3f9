import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeUserNamespace } from '../../test/support/user-namespace.ts';
import { mount, unmount } from '../linux.ts';
import { LogHub } from '../telemetry/log.ts';
import { HeldResources } from './held-resources.ts';
import { MappedVolumes } from './mapped-volumes.ts';
import { parseSpec, type Spec } from './spec.ts';

const folder = mkdtempSync('/tmp/spinshim-mapped-');
const bundle = join(folder, 'bundle');
const rootOfNamespace = 500_000;
const mapping = [{ containerID: 0, hostID: rootOfNamespace, size: 1_000 }];
const { logger: log } = new LogHub('fatal', { write: () => {} });
let held: HeldResources;
let namespace: string;
let end = (): void => {};

function specOf(mounts: readonly object[], user: object = { type: 'user', path: namespace }): Spec {
  const linux = { namespaces: [user], uidMappings: mapping, gidMappings: mapping };
  return parseSpec(JSON.stringify({ mounts, linux }));
}

const volumesOf = (spec: Spec): MappedVolumes =>
  new MappedVolumes(spec, (...volume) => held.exposeMapped(...volume));

/** A mount as containerd asks for it in a pod with a user namespace. */
const mapped = (source: string, options: readonly string[] = ['rbind']): object => ({
  ...{ destination: '/data', type: 'bind', source, options },
  ...{ uidMappings: mapping, gidMappings: mapping },
});

function makeVolume(name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, 'of-root'), name, { mode: 0o600 });
  return path;
}

const ownerOf = (path: string): number => statSync(path).uid;

before(async () => {
  mkdirSync(bundle);
  writeFileSync(join(bundle, 'config.json'), '{}');
  held = new HeldResources(
    'c',
    { path: bundle, rootfs: join(bundle, 'rootfs'), spec: specOf([], { type: 'user' }) },
    log,
  );
  const { pid, end: endNamespace } = await makeUserNamespace({ hostId: rootOfNamespace, length: 1_000 });
  end = endNamespace;
  namespace = `/proc/${pid}/ns/user`;
});

after(async () => {
  end();
  await held.free();
  rmSync(folder, { recursive: true });
});

test("files of a mapped volume belong to the namespace's ids, both ways, and are mapped once", async () => {
  const source = makeVolume('both-ways');
  const volumes = volumesOf(specOf([mapped(source)]));
  const place = await volumes.placeOf(source);
  assert.equal(await volumes.placeOf(source), place);
  assert.equal(ownerOf(join(place, 'of-root')), rootOfNamespace);
  assert.equal(ownerOf(join(source, 'of-root')), 0);
  const written = spawn(
    'setpriv',
    [
      '--reuid',
      `${rootOfNamespace}`,
      '--regid',
      `${rootOfNamespace}`,
      '--clear-groups',
      'sh',
      '-c',
      'cat of-root; echo new > new',
    ],
    { cwd: place, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [[seen], [code]] = await Promise.all([once(written.stdout, 'data'), once(written, 'exit')]);
  assert.deepEqual([String(seen), code], ['both-ways', 0]);
  assert.equal(ownerOf(join(source, 'new')), 0);
  assert.equal(readFileSync(join(source, 'new'), 'utf8'), 'new\n');
});

test('a read-only one takes no change, a file is mapped alone, and one without a mapping stays where it is', async () => {
  const source = makeVolume('read-only');
  const file = join(makeVolume('of-files'), 'of-root');
  const plain = { ...mapped(join(folder, 'plain')), uidMappings: [], gidMappings: [] };
  const volumes = volumesOf(specOf([mapped(source, ['rbind', 'ro']), mapped(file, ['bind', 'rro']), plain]));
  const place = await volumes.placeOf(source);
  assert.throws(() => writeFileSync(join(place, 'of-root'), ''), { code: 'EROFS' });
  const filePlace = await volumes.placeOf(file);
  assert.equal(readFileSync(filePlace, 'utf8'), 'of-files');
  assert.equal(ownerOf(filePlace), rootOfNamespace);
  assert.throws(() => writeFileSync(filePlace, ''), { code: 'EROFS' });
  assert.equal(await volumes.placeOf(join(folder, 'plain')), join(folder, 'plain'));
});

test('what is mounted below a volume comes along with rbind, and is mapped too with ridmap', async () => {
  const source = makeVolume('nested');
  const [inner, below] = [makeVolume('inner'), join(source, 'below')];
  mkdirSync(below);
  mount('', inner, below, ['bind']);
  try {
    for (const [options, owner] of [
      [['bind'], undefined],
      [['rbind'], 0],
      [['rbind', 'ridmap'], rootOfNamespace],
    ] as const) {
      const place = await volumesOf(specOf([mapped(source, options)])).placeOf(source);
      const file = join(place, 'below', 'of-root');
      assert.equal(existsSync(file) ? ownerOf(file) : undefined, owner, options.join());
      unmount(place);
    }
  } finally {
    unmount(below);
  }
});

test('what cannot be mapped is told with what to do', async () => {
  const source = makeVolume('refused');
  await assert.rejects(volumesOf(specOf([mapped('/proc')])).placeOf('/proc'), {
    code: 'failed-precondition',
    message: /volume at "\/data" .*user namespace: .*EINVAL; its file system .*hostUsers/,
  });
  const other = { ...mapped(source), uidMappings: [{ containerID: 0, hostID: 7, size: 1 }] };
  await assert.rejects(volumesOf(specOf([other])).placeOf(source), {
    code: 'unsupported',
    message: /its own mapping is another/,
  });
  await assert.rejects(volumesOf(specOf([mapped(source)], { type: 'user' })).placeOf(source), {
    code: 'unsupported',
    message: /none that is there already/,
  });
  await assert.rejects(volumesOf(specOf([mapped(source)], { type: 'user', path: '/none' })).placeOf(source), {
    code: 'failed-precondition',
    message: /ENOENT/,
  });
});
