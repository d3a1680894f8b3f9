import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ContainerInput } from './support/cri.ts';
import { SpinNode } from './support/spin-node.ts';
import { fieldOfThreads } from './support/threads.ts';

const noCapabilities = '0000000000000000';

/** What every thread of an engine has, whatever its pod asks for. */
const always = {
  CapInh: noCapabilities,
  CapPrm: noCapabilities,
  CapEff: noCapabilities,
  CapBnd: noCapabilities,
  CapAmb: noCapabilities,
  NoNewPrivs: '1',
  Seccomp: '2',
} as const;

const cases: readonly {
  readonly name: string;
  readonly container: Partial<ContainerInput>;
  readonly threads: Readonly<Record<string, string>>;
}[] = [
  { name: 'root', container: {}, threads: { Uid: '0 0 0 0', Gid: '0 0 0 0' } },
  {
    name: 'root-with-all-capabilities',
    container: { capabilities: { add: ['ALL'] } },
    threads: { Uid: '0 0 0 0' },
  },
  {
    name: 'user-1000',
    container: { runAsUser: 1000, runAsGroup: 1001, supplementalGroups: [2000, 3000] },
    threads: { Uid: '1000 1000 1000 1000', Gid: '1001 1001 1001 1001', Groups: '1001 2000 3000' },
  },
  {
    name: 'restricted',
    container: {
      runAsUser: 65_534,
      runAsGroup: 65_534,
      capabilities: { drop: ['ALL'] },
      noNewPrivileges: true,
      readonlyRootfs: true,
    },
    threads: { Uid: '65534 65534 65534 65534' },
  },
];

/** What the descriptors of a process are. */
function openFiles(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch (error) {
      // It has been closed meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  });
}

describe('the security context of a pod', { timeout: 180_000 }, () => {
  let node: SpinNode;

  before(async () => {
    node = await SpinNode.start(['js-api', 'rust-http']);
  });
  after(() => node.stop());

  for (const { name, container, threads } of cases) {
    test(`holds for every thread of the engine: ${name}`, async () => {
      const pod = await node.run({ name, image: node.image('js-api'), container });
      assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
      const pid = await pod.pid();
      for (const [field, value] of Object.entries({ ...always, ...threads }))
        assert.deepEqual(fieldOfThreads(pid, field), [value], field);
      assert.ok(!openFiles(pid).includes('anon_inode:[io_uring]'));
      assert.equal((await pod.request('/kv/colour')).text, 'green');
      const { exitCode, stdout, stderr } = await node.cri.execSync(pod.containerId, ['kv', 'get', 'colour']);
      assert.deepEqual([exitCode, String(stdout).trim(), String(stderr)], [0, 'green', '']);
      for (const [field, value] of Object.entries({ ...always, ...threads }))
        assert.deepEqual(fieldOfThreads(pid, field), [value], `${field}, with the shell's thread`);
      await pod.stop(10);
      assert.equal((await pod.status()).exit_code, 0);
      await pod.remove();
    });
  }

  test('the profile that containerd makes leaves an engine all it needs', async () => {
    const container = { runAsUser: 1000, seccomp: 'RuntimeDefault' } as const;
    const plain = await node.run({ name: 'no-profile', image: node.image('js-api') });
    const pod = await node.run({ name: 'runtime-default', image: node.image('js-api'), container });
    const [without = ''] = fieldOfThreads(await plain.pid(), 'Seccomp_filters');
    const filters = [String(Number(without) + 1)];
    assert.deepEqual(fieldOfThreads(await pod.pid(), 'Seccomp_filters'), filters);
    assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
    const { exitCode, stdout } = await node.cri.execSync(pod.containerId, ['kv', 'get', 'colour']);
    assert.deepEqual([exitCode, String(stdout).trim()], [0, 'green']);
    assert.deepEqual(fieldOfThreads(await pod.pid(), 'Seccomp_filters'), filters, "with the shell's thread");
    await pod.stop(10);
    assert.equal((await pod.status()).exit_code, 0);
    await node.removePods();
  });

  describe('a profile of the node', () => {
    const folder = mkdtempSync(join(tmpdir(), 'seccomp-'));
    after(() => rmSync(folder, { recursive: true }));

    /** A container with a profile; an action of no call is the default's. */
    function withProfile(name: string, profile: object): Partial<ContainerInput> {
      const path = join(folder, `${name}.json`);
      writeFileSync(path, JSON.stringify(profile));
      return { seccomp: { localhost: path } };
    }

    test('refuses what it refuses, to guests too', async () => {
      const container = withProfile('no-connect', {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['connect'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }],
      });
      const pod = await node.run({ name: 'no-connect', image: node.image('rust-http'), container });
      const answer = await pod.request('/outbound', { method: 'POST', body: 'http 127.0.0.1:80 /' });
      assert.equal(answer.status, 502, answer.text);
      assert.equal((await pod.request('/env')).status, 200);
      await pod.remove();
    });

    test('may refuse what giving up rights takes', async () => {
      const names = ['capset', 'prctl', 'setresuid', 'setgroups', 'seccomp', 'landlock_restrict_self'];
      const container = withProfile('no-rights', {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names, action: 'SCMP_ACT_KILL' }],
      });
      const envs = { SPIN_HTTP_LISTEN_ADDR: '0.0.0.0:8080' };
      const pod = await node.run({
        name: 'no-rights',
        image: node.image('rust-http'),
        container: { ...container, envs },
        port: 8080,
      });
      assert.equal((await pod.request('/env')).status, 200);
      await pod.remove();
    });

    for (const [name, profile, reason] of [
      [
        'no-action',
        { defaultAction: 'SCMP_ACT_PERHAPS' },
        /"linux\.seccomp\.defaultAction" is "SCMP_ACT_PERHAPS"/,
      ],
      [
        'no-files',
        { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['openat'], action: 'SCMP_ACT_KILL' }] },
        /the container has a seccomp profile: it may refuse what an engine needs/,
      ],
      [
        'no-opening',
        {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['open', 'openat', 'openat2'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }],
        },
        /EACCES; the container has a seccomp profile: it may refuse what an engine needs/,
      ],
    ] as const) {
      test(`that no engine can live with is told of at the start: ${name}`, async () => {
        const container = withProfile(name, profile);
        const pod = await node.create({ name, image: node.image('rust-http'), container });
        await assert.rejects(pod.start(), reason);
        await pod.waitForLog('stderr', reason);
        await pod.remove();
      });
    }
  });

  test('an out-of-memory score is the one that was asked for', async () => {
    const resources = { oomScoreAdj: 985 };
    const pod = await node.run({ name: 'score', image: node.image('rust-http'), container: { resources } });
    assert.equal(readFileSync(`/proc/${await pod.pid()}/oom_score_adj`, 'utf8').trim(), '985');
    await pod.remove();
  });

  test('a user who is not root resolves names and sends requests in the network of the pod', async () => {
    const pod = await node.run({
      name: 'outbound',
      image: node.image('rust-http'),
      container: { runAsUser: 1000 },
    });
    const answer = await pod.request('/outbound', { method: 'POST', body: 'http 127.0.0.1:80 /' });
    assert.match(answer.text, /^200 /);
    await pod.remove();
  });
});
