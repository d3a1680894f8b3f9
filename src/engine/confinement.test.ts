import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import type { BigIntStats } from 'node:fs';
import { chmod, chown, mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { fieldOfThreads } from '../../test/support/threads.ts';
import { type BpfInstruction, bpf, callAnswers, callOffsets, encodeBpf } from '../bpf.ts';
import { machine, systemCallNumber } from '../system-calls.ts';
import type { EngineClaim, EngineSecurity } from './messages.ts';
import type { PreparedApp } from './prepared-app.ts';
import { fixtures, prepareApp, SuiteCleanup, TestEngine, temporaryFolder } from './test-engine.ts';

const nobodySpecial: EngineSecurity = {
  uid: 1000,
  gid: 1001,
  groups: [2000, 3000],
  capabilities: [],
  limits: [],
};
const noCapabilities = '0000000000000000';

const manifest = `spin_manifest_version = 2
[application]
name = "api"
[variables]
greeting = { default = "hello" }
[[trigger.http]]
route = "/..."
component = "api"
[component.api]
source = "js-api.wasm"
files = [{ source = "static", destination = "/static" }]
key_value_stores = ["default"]
allowed_outbound_hosts = ["http://127.0.0.1:*"]
[component.api.variables]
greeting = "{{ greeting }}"
`;

const options = { timeout: 120_000, skip: process.getuid?.() === 0 ? false : 'giving up ids needs root' };

describe('an engine that belongs to a container', options, () => {
  const undo: (() => unknown)[] = [];
  let folder: string;
  let prepared: PreparedApp;

  before(async () => {
    folder = await temporaryFolder({ after: (step) => void undo.unshift(step) });
    await chmod(folder, 0o711);
    prepared = await prepareApp(folder, manifest, {
      'js-api.wasm': join(fixtures, 'build', 'js-api', 'js-api.wasm'),
      'static/note.txt': Buffer.from('a note'),
    });
  });

  after(async () => {
    for (const step of undo) await step();
  });

  async function stateDirOf(uid: number): Promise<string> {
    const stateDir = join(folder, `state-${uid}`);
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    await chown(stateDir, uid, uid);
    return stateDir;
  }

  test('runs every thread as its user, without capabilities and behind the filter', async (t) => {
    const stateDir = await stateDirOf(1000);
    const { process: engine, base } = await TestEngine.start(t, prepared, {
      security: nobodySpecial,
      stateDir,
    });
    assert.equal(await (await fetch(`${base}/variable/greeting`)).text(), 'hello');
    const expected: readonly (readonly [string, string])[] = [
      ['Uid', '1000 1000 1000 1000'],
      ['Gid', '1001 1001 1001 1001'],
      ['Groups', '2000 3000'],
      ...['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map((set) => [set, noCapabilities] as const),
      ['NoNewPrivs', '1'],
      ['Seccomp', '2'],
    ];
    for (const [field, value] of expected)
      assert.deepEqual(fieldOfThreads(engine.pid, field), [value], field);
  });

  test('keeps the capabilities it is granted as root, and no other', async (t) => {
    const security = { ...nobodySpecial, uid: 0, gid: 0, groups: [], capabilities: [1] };
    const engine = await TestEngine.start(t, prepared, { security, stateDir: await stateDirOf(0) });
    for (const [field, value] of [
      ['Uid', '0 0 0 0'],
      ['Groups', ''],
      ['CapPrm', '0000000000000002'],
      ['CapEff', '0000000000000002'],
      ['CapBnd', '0000000000000002'],
      ['Seccomp', '2'],
    ] as const)
      assert.deepEqual(fieldOfThreads(engine.process.pid, field), [value], field);
  });

  /** A claim with a profile of the pod's that answers calls with an errno: all of those names, or those of a condition. */
  async function profiled(
    names: readonly string[],
    errno: number,
    condition: readonly BpfInstruction[] = [],
  ): Promise<Partial<EngineClaim>> {
    const program = encodeBpf([
      [bpf.load, callOffsets.number],
      ...names.flatMap((name): BpfInstruction[] => [
        [bpf.jumpEqual, systemCallNumber(name, machine) ?? 0, 0, condition.length + 1],
        ...condition,
        [bpf.give, callAnswers.fail(errno)],
      ]),
      [bpf.give, callAnswers.allow],
    ]);
    const security = { ...nobodySpecial, filter: { program, isLogged: false } };
    return { security, stateDir: await stateDirOf(1000) };
  }

  async function assertServes(engine: TestEngine): Promise<void> {
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await engine.text('/variable/greeting'), [200, 'hello']);
      assert.deepEqual(await engine.text('/file/static/note.txt'), [200, 'a note']);
    }
  }

  test("serves, loads and drains behind a profile of the pod's that refuses io_uring, booted without the launcher", async (t) => {
    const claim = await profiled(['io_uring_setup', 'io_uring_enter', 'io_uring_register'], 1);
    const engine = await TestEngine.start(t, prepared, claim);
    const rings = (await readdir(`/proc/${engine.process.pid}/fd`)).map((fd) =>
      readlink(`/proc/${engine.process.pid}/fd/${fd}`).catch(() => ''),
    );
    assert.ok((await Promise.all(rings)).includes('anon_inode:[io_uring]'), 'it has rings, as no pod has');
    await assertServes(engine);
    assert.equal((await fetch(`${engine.base}/kv/colour`, { method: 'PUT', body: 'green' })).status, 204);
    engine.process.signal('SIGTERM');
    assert.equal((await engine.process.exited).exitCode, 0);
  });

  describe("a profile of the pod's that keeps an engine from the store", () => {
    let neighbour: TestEngine;
    let stop: () => Promise<void>;
    const entry = (): string => prepared.components[0]?.entryPath ?? '';
    let status: BigIntStats;

    before(async () => {
      const own = new SuiteCleanup();
      stop = () => own.run();
      neighbour = await TestEngine.start(own, prepared, {
        security: nobodySpecial,
        stateDir: await stateDirOf(1000),
      });
      status = await stat(entry(), { bigint: true });
    });
    // Whatever happens to the one, the other's entry and memory are as they were.
    after(async () => {
      await assertServes(neighbour);
      const { ino, size, mtimeNs, ctimeNs } = await stat(entry(), { bigint: true });
      assert.deepEqual(
        [ino, size, mtimeNs, ctimeNs],
        [status.ino, status.size, status.mtimeNs, status.ctimeNs],
      );
      await stop();
    });

    test('by mapping: its instances get copies', async (t) => {
      const maps = async ({ process: { pid } }: TestEngine): Promise<number> =>
        (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n').filter((line) => line.endsWith(entry()))
          .length;
      // mmap of a descriptor that is one.
      const claim = await profiled(['mmap'], 13, [
        [bpf.load, callOffsets.argument(4)],
        [bpf.jumpEqual, 0xffffffff, 1, 0],
      ]);
      const engine = await TestEngine.start(t, prepared, claim);
      await assertServes(engine);
      assert.deepEqual([await maps(engine), (await maps(neighbour)) > 0], [0, true]);
    });

    for (const [what, names, errno, reason] of [
      ['by opening', ['open', 'openat', 'openat2'], 13, /opening the directory failed with EACCES/],
      ['by reading', ['pread64'], 1, /cannot be started: EPERM/],
      ['by protecting memory', ['mprotect'], 1, /the engine process is gone: .*Fatal error/s],
    ] as const)
      test(`${what}: it does not start, and says why`, async (t) => {
        await assert.rejects(TestEngine.start(t, prepared, await profiled(names, errno)), reason);
      });
  });

  test('reads its files, keeps key-values and drains as its user', async (t) => {
    const stateDir = await stateDirOf(1000);
    const engine = await TestEngine.start(t, prepared, { security: nobodySpecial, stateDir });
    assert.equal(await (await fetch(`${engine.base}/file/static/note.txt`)).text(), 'a note');
    assert.equal((await fetch(`${engine.base}/kv/colour`, { method: 'PUT', body: 'green' })).status, 204);
    assert.equal(await (await fetch(`${engine.base}/kv/colour`)).text(), 'green');
    const { uid, gid } = await stat(join(stateDir, 'sqlite_key_value.db'));
    assert.deepEqual([uid, gid], [1000, 1001]);
    engine.process.signal('SIGTERM');
    assert.equal((await engine.process.exited).exitCode, 0);
  });

  test('has the resource limits it was given', async (t) => {
    const limits = [{ resource: 7, soft: 500n, hard: 600n }];
    const security = { ...nobodySpecial, limits };
    const engine = await TestEngine.start(t, prepared, { security, stateDir: await stateDirOf(1000) });
    const text = await readFile(`/proc/${engine.process.pid}/limits`, 'utf8');
    assert.match(text, /Max open files +500 +600 /);
  });

  test('does not start where its user cannot read the installation again', async (t) => {
    const closed = await temporaryFolder(t);
    await assert.rejects(
      confinedScript(
        closed,
        'new Confinement().apply({ uid: 1000, gid: 1000, groups: [], capabilities: [], limits: [] }, nothing, 80, { worker: join(closed, "worker.mjs") })',
      ),
      /user 1000 of the container cannot read this installation/,
    );
  });

  test('does not start without the AppArmor profile that it is to take', async (t) => {
    const closed = await temporaryFolder(t);
    await assert.rejects(
      confinedScript(
        closed,
        'new Confinement().apply({ uid: 1000, gid: 1000, groups: [], capabilities: [], limits: [], appArmorProfile: "spin-no-such-profile" }, nothing, 80)',
      ),
      // The kernel's word where there is no AppArmor, or not that profile.
      /giving up rights failed .*with errno (22|2)\b/,
    );
  });

  test('nothing but what it was granted can be opened, by whatever thread', async (t) => {
    const granted = await temporaryFolder(t);
    await writeFile(join(granted, 'file'), 'granted');
    const output = await confinedScript(
      granted,
      `new Confinement().apply({ uid: 0, gid: 0, groups: [], capabilities: [], limits: [] }, { readable: [closed], writable: [] }, 80);
       const attempts = {
         granted: () => readFileSync(join(closed, 'file'), 'utf8'),
         passwd: () => readFileSync('/etc/passwd', 'utf8'),
         write: () => writeFileSync(join(closed, 'new'), 'x'),
         pool: () => promises.readFile('/etc/passwd'),
         program: () => execFileSync('/bin/true'),
         local: () => once(connect('/run/nothing'), 'connect'),
         signal: () => process.kill(process.ppid, 'SIGCONT'),
         worker: () => once(new Worker('process.getBuiltinModule("fs").readFile("/etc/passwd", (error) => process.getBuiltinModule("worker_threads").parentPort.postMessage(error.code))', { eval: true }), 'message'),
       };
       for (const [name, attempt] of Object.entries(attempts)) {
         const outcome = await Promise.resolve().then(attempt).then(String, (error) => error.code ?? error.message);
         process.stdout.write(name + '=' + outcome + ' ');
       }`,
    );
    assert.equal(
      output.trim(),
      'granted=granted passwd=EACCES write=EACCES pool=EACCES program=EPERM local=EAFNOSUPPORT signal=EPERM worker=EACCES',
    );
  });
});

/** Runs a script that confines itself, with `closed` naming a folder. */
async function confinedScript(closed: string, script: string): Promise<string> {
  const here = import.meta.dirname;
  const text = `
    import { execFileSync } from 'node:child_process';
    import { once } from 'node:events';
    import { promises, readFileSync, writeFileSync } from 'node:fs';
    import { connect } from 'node:net';
    import { join } from 'node:path';
    import { Worker } from 'node:worker_threads';
    import { Confinement } from ${JSON.stringify(join(here, 'confinement.ts'))};
    const closed = ${JSON.stringify(closed)};
    const nothing = { readable: [], writable: [] };
    await promises.readFile('/etc/hosts');
    ${script}`;
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--no-warnings',
    '--disable-sigusr1',
    '--input-type=module',
    '-e',
    text,
  ]);
  return stdout;
}
