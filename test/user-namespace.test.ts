// A container of a pod in a user namespace, as containerd 2 asks for it: ids, mounts with ids of their own, a network namespace
// that is the user namespace's. Played, since the containerd of the machine may be one that knows no such pods.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { PlayedContainerd } from './support/played-containerd.ts';
import { makeUserNamespace, type UserNamespace } from './support/user-namespace.ts';
import { suiteTimeoutMs } from './support/wait.ts';

const run = promisify(execFile);
const [rootOfPod, idsOfPod] = [600_000, 65_536];
const mappings = [{ containerID: 0, hostID: rootOfPod, size: idsOfPod }];

describe('a container in a user namespace', { timeout: suiteTimeoutMs }, () => {
  let containerd: PlayedContainerd;
  let folder: string;
  let namespaces: UserNamespace;

  before(async () => {
    containerd = await PlayedContainerd.start();
    folder = await mkdtemp('/tmp/spinshim-user-namespace-');
    namespaces = await makeUserNamespace({ hostId: rootOfPod, length: idsOfPod });
    await inNetwork('ip', ['link', 'set', 'lo', 'up']);
  });
  after(async () => {
    namespaces.end();
    await containerd.stop();
    await rm(folder, { recursive: true });
  });

  const inNetwork = async (command: string, args: readonly string[]): Promise<string> => {
    const { stdout } = await run('nsenter', [`--net=/proc/${namespaces.pid}/ns/net`, command, ...args]);
    return stdout;
  };

  /** Status and body of the app's answer. */
  async function ask(path: string, method = 'GET', body?: string): Promise<string> {
    const script = `fetch('http://127.0.0.1${path}', ${JSON.stringify({ method, body })}).then(async (answer) => console.log(answer.status, await answer.text()))`;
    return (await inNetwork(process.execPath, ['-e', script])).trim();
  }

  async function volume(name: string, owner: number): Promise<string> {
    const path = join(folder, name);
    await mkdir(path);
    await writeFile(join(path, 'note'), name, { mode: 0o600 });
    await run('chown', ['-R', `${owner}:${owner}`, path]);
    return path;
  }

  test("root of the pod has its own volumes' files and nobody else's, and is nobody on the node", async () => {
    const [own, others, unmapped] = [
      await volume('own', 0),
      await volume('others', 1_234),
      await volume('unmapped', 0),
    ];
    await chmod(own, 0o700);
    const mounted = (source: string, place: string, options: readonly string[]): object => ({
      ...{ destination: place, type: 'bind', source, options },
      ...{ uidMappings: mappings, gidMappings: mappings },
    });
    const plain = { destination: '/unmapped', type: 'bind', source: unmapped, options: ['rbind', 'ro'] };
    const grants = ['/own:rw', '/others', '/unmapped', '/single/note'].map((path) => `rust-http:${path}`);
    const id = await containerd.prepare('Spin', {
      app: 'rust-http',
      changes: {
        annotations: { 'spin.shim/files': grants.join() },
        mounts: [
          mounted(own, '/own', ['rbind', 'rw']),
          mounted(others, '/others', ['rbind', 'ro']),
          mounted(join(own, 'note'), '/single/note', ['rbind', 'ro']),
          plain,
        ],
        linux: {
          namespaces: [
            { type: 'user', path: `/proc/${namespaces.pid}/ns/user` },
            { type: 'network', path: `/proc/${namespaces.pid}/ns/net` },
          ],
          uidMappings: mappings,
          gidMappings: mappings,
        },
      },
    });
    const { pid } = await containerd.call('Create', id);
    await containerd.call('Start', id);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    assert.match(status, new RegExp(`^Uid:(\\t${rootOfPod}){4}$`, 'm'));
    assert.match(status, new RegExp(`^Gid:(\\t${rootOfPod}){4}$`, 'm'));
    assert.match(status, /^CapEff:\t0+$/m);
    assert.equal(await ask('/file/own/note'), '200 own');
    assert.equal(await ask('/file/single/note'), '200 own');
    for (const path of ['/file/others/note', '/file/unmapped/note'])
      assert.doesNotMatch(await ask(path), /^200/, path);
    assert.match(await ask('/write/own/new', 'POST', 'from the guest'), /^20\d/);
    assert.equal(await readFile(join(own, 'new'), 'utf8'), 'from the guest');
    assert.equal((await stat(join(own, 'new'))).uid, 0);
    const places = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
    assert.ok(places.some((line) => line.includes(`${containerd.bundle(id)}/exposed/mapped-0`)));
    await containerd.call('Kill', id, { signal: 9 });
    await containerd.call('Wait', id);
    await containerd.call('Delete', id);
    assert.ok(!(await readFile('/proc/self/mountinfo', 'utf8')).includes(containerd.bundle(id)));
  });
});
