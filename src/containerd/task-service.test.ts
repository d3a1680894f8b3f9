import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { memoryProcessFile } from '../../test/support/cgroups.ts';
import { memoryHog } from '../../test/support/memory-hog.ts';
import { waitFor } from '../../test/support/wait.ts';
import { ShimError } from '../error.ts';
import { bytesInPipe, makeFifo } from '../linux.ts';
import { LogHub } from '../telemetry/log.ts';
import { TtrpcClient } from '../ttrpc/client.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import { StatusCode } from '../ttrpc/status.ts';
import { AppMemo } from '../workload/app-memo.ts';
import { EnginePool } from '../workload/engine-pool.ts';
import { WorkloadFactory } from '../workload/workload-factory.ts';
import { LinuxEvents } from './linux-events.ts';
import { LinuxTasks } from './linux-tasks.ts';
import { bindTaskService, type TaskHandlers, taskProto, taskServiceNames, taskStatus } from './messages.ts';
import { TaskService } from './task-service.ts';
import { TaskTable } from './task-table.ts';

/** The real service with real sandboxes behind a real ttrpc connection; only containerd itself is played. */
const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'spinshim-task-'));
const hub = new LogHub('fatal', { write: () => {} });
const pool = new EnginePool(0, hub.logger);
const published: string[] = [];
/** When containerd has heard of an event. */
let told: Promise<void> = Promise.resolve();
const table = new TaskTable();
const server = new TtrpcServer({
  toStatus: (thrown) => {
    const error = ShimError.from(thrown);
    return { code: error.meaning.status, message: error.message };
  },
});
let client: TtrpcClient;
let count = 0;
let id = '';
let bundle = '';

before(async () => {
  execFileSync('make', ['-s', '-C', join(root, 'shim-binary')]);
  const runtime = {
    address: join(folder, 'none.sock'),
    namespace: 'test',
    storeDir: join(folder, 'store'),
    pool,
    memo: new AppMemo(join(folder, 'store'), 'test'),
    learning: undefined,
    imageOf: () => Promise.reject(new ShimError('not-found', 'no such image')),
    isSpinImage: async () => false,
    log: hub.logger,
  };
  const service = new TaskService({
    namespace: 'test',
    table,
    factory: new WorkloadFactory(runtime, join(root, 'dist/bin/containerd-shim-spin-v2')),
    linux: new LinuxTasks(
      {
        address: runtime.address,
        ttrpcAddress: `${runtime.address}.ttrpc`,
        namespace: 'test',
        publishBinary: '',
        debug: false,
      },
      new LinuxEvents(async () => {}),
    ),
    log: hub.logger,
    publish: (topic) => {
      published.push(topic);
      return told;
    },
    taskLog: { open: () => {}, close: () => {} },
  });
  const methods = bindTaskService(service);
  for (const name of taskServiceNames) server.register(name, methods);
  await server.listen(join(folder, 's'));
  client = await TtrpcClient.connect(join(folder, 's'));
});

after(async () => {
  client.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

beforeEach(() => {
  published.length = 0;
  id = `task-${process.pid}-${count++}`;
  bundle = join(folder, id);
  mkdirSync(bundle);
  writeConfig({ 'io.kubernetes.cri.container-type': 'sandbox' });
});

function writeConfig(
  annotations: Readonly<Record<string, string>>,
  init: object = {},
  resources: object = {},
): void {
  const namespaces = ['pid', 'ipc', 'uts', 'network'].map((type) => ({ type }));
  const linux = { cgroupsPath: `/spinshim-unit-${process.pid}/${id}`, namespaces, resources };
  writeFileSync(
    join(bundle, 'config.json'),
    JSON.stringify({ hostname: 'pod', annotations, linux, process: init }),
  );
}

after(() => {
  for (const line of execFileSync(
    'find',
    ['/sys/fs/cgroup', '-depth', '-name', `spinshim-unit-${process.pid}`],
    { encoding: 'utf8' },
  ).split('\n')) {
    if (line !== '') execFileSync('rmdir', [line]);
  }
});

type Answer<Name extends keyof TaskHandlers> = Awaited<ReturnType<TaskHandlers[Name]>>;

function call<Name extends keyof TaskHandlers>(
  name: Name,
  request: object = {},
  version: 0 | 1 = 0,
): Promise<Answer<Name>> {
  const codec = taskProto.method<object, Answer<Name>>(taskServiceNames[0], name);
  return client.call(taskServiceNames[version], name, codec, { id, ...request });
}

const create = (request: object = {}): Promise<Answer<'Create'>> => call('Create', { bundle, ...request });
const fails = (promise: Promise<unknown>, code: number, message: RegExp): Promise<void> =>
  assert.rejects(promise, { code, message });

test('a task lives from creation to deletion', async () => {
  const { pid } = await create();
  assert.ok(pid > 0);
  assert.equal((await call('State')).status, taskStatus.created);
  assert.equal((await call('State')).exitedAt, null);
  const waits = Array.from({ length: 100 }, () => call('Wait'));
  assert.equal((await call('Start', {}, 1)).pid, pid);
  assert.equal((await call('State')).status, taskStatus.running);
  assert.deepEqual(await call('Connect'), { shimPid: process.pid, taskPid: pid, version: '' });
  assert.deepEqual((await call('Pids')).processes[0]?.pid, pid);
  await fails(call('Delete'), StatusCode.FailedPrecondition, /cannot delete a running process/);
  await call('Kill', { signal: 9, all: true });
  for (const { exitStatus, exitedAt } of await Promise.all(waits)) {
    assert.equal(exitStatus, 137);
    assert.ok(exitedAt !== null && exitedAt.seconds > 0);
  }
  assert.equal((await call('State')).status, taskStatus.stopped);
  assert.equal((await call('Wait')).exitStatus, 137);
  assert.equal((await call('Pids')).processes.length, 1);
  assert.match((await call('Stats')).stats.type_url, /^io\.containerd\.cgroups\.v[12]\.Metrics$/);
  await fails(call('Kill', { signal: 9 }), StatusCode.NotFound, /process already finished/);
  assert.deepEqual((await call('Delete')).exitStatus, 137);
  await fails(call('Wait'), StatusCode.NotFound, /not known/);
  assert.deepEqual(published, ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
  assert.deepEqual(readdirSync(bundle), ['config.json']);
});

test('the end of a task that ran out of memory is kept back until containerd knows of that', async (t) => {
  const limit = 32 * 1024 * 1024;
  writeConfig({ 'io.kubernetes.cri.container-type': 'sandbox' }, {}, { memory: { limit, swap: limit } });
  const { pid } = await create();
  await call('Start');
  const heard = Promise.withResolvers<void>();
  told = heard.promise;
  t.after(() => {
    told = Promise.resolve();
  });
  const hog = memoryHog();
  t.after(() => hog.kill('SIGKILL'));
  // A sandbox comes into its cgroup while its caller goes on.
  await waitFor('the sandbox to be in its cgroup', () => memoryProcessFile(pid).includes(`/${id}/`));
  writeFileSync(memoryProcessFile(pid), String(hog.pid));
  hog.stdin?.write('go\n');
  await waitFor('the want of memory', () => published.includes('/tasks/oom'));
  let isAnswered = false;
  const wait = call('Wait').finally(() => {
    isAnswered = true;
  });
  await call('Kill', { signal: 9 });
  await waitFor('the end', () => published.includes('/tasks/exit'));
  assert.equal((await call('State')).status, taskStatus.stopped);
  assert.equal(isAnswered, false);
  heard.resolve();
  assert.equal((await wait).exitStatus, 137);
  await call('Delete');
});

test('a task that was never started is killed and deleted', async () => {
  await create();
  await call('Kill', { signal: 9 });
  assert.equal((await call('Wait')).exitStatus, 137);
  await call('Delete');
  assert.deepEqual(published, ['/tasks/create', '/tasks/exit', '/tasks/delete']);
});

test('deleting a created task ends it first, and twice at once is answered twice', async () => {
  await create();
  const [first, second] = await Promise.all([call('Delete'), call('Delete')]);
  assert.deepEqual(first, second);
  assert.deepEqual(published, ['/tasks/create', '/tasks/exit', '/tasks/delete']);
});

test('a sandbox ends with 0 on SIGTERM', async () => {
  await create();
  await call('Start');
  await call('Kill', { signal: 15 });
  assert.equal((await call('Wait')).exitStatus, 0);
  await call('Delete');
});

test('pausing stops and resuming continues', async () => {
  await create();
  await fails(call('Pause'), StatusCode.FailedPrecondition, /cannot pause task in created state/);
  await call('Start');
  await call('Pause');
  assert.equal((await call('State')).status, taskStatus.paused);
  await call('Resume');
  await call('Pause');
  await call('Kill', { signal: 9 });
  assert.equal((await call('Wait')).exitStatus, 137);
  await call('Delete');
  assert.deepEqual(published.slice(2, 5), ['/tasks/paused', '/tasks/resumed', '/tasks/paused']);
});

test('an update rewrites the limits', async () => {
  await create();
  const value = Buffer.from('{"pids":{"limit":50}}');
  await call('Update', { resources: { type_url: 'x', value } });
  const bad = { type_url: 'x', value: Buffer.from('{') };
  await fails(call('Update', { resources: bad }), StatusCode.InvalidArgument, /not JSON/);
  await call('Delete');
});

test('what is started twice, created twice or not there is refused', async () => {
  await create();
  await fails(create(), StatusCode.AlreadyExists, /exists already/);
  await call('Start');
  await fails(call('Start'), StatusCode.FailedPrecondition, /cannot start a running process/);
  await fails(call('State', { execId: 'e' }), StatusCode.NotFound, /no process "e"/);
  await fails(call('Exec', { execId: 'e' }), StatusCode.Unimplemented, /not supported/);
  await fails(call('Checkpoint'), StatusCode.Unimplemented, /checkpoint/);
  await call('ResizePty');
  await call('CloseIO', { stdin: true });
  await call('CloseIO', { stdin: true });
  await call('Shutdown');
  await call('Kill', { signal: 9 });
  await call('Wait');
  await fails(call('Start'), StatusCode.FailedPrecondition, /cannot start a stopped process/);
  await call('Delete');
});

test('every call about an unknown task is not-found', async () => {
  const names = [
    'State',
    'Start',
    'Wait',
    'Kill',
    'Delete',
    'Pids',
    'Pause',
    'Resume',
    'Stats',
    'Connect',
    'Update',
    'Exec',
    'CloseIO',
    'ResizePty',
    'Checkpoint',
  ] as const;
  for (const name of names) await fails(call(name), StatusCode.NotFound, /is not known here/);
});

test('creations that cannot be are refused with the reason and leave nothing', async () => {
  await fails(create({ terminal: true }), StatusCode.InvalidArgument, /terminal/);
  await fails(create({ checkpoint: '/c' }), StatusCode.Unimplemented, /checkpoint/);
  await fails(create({ stdout: 'relative' }), StatusCode.InvalidArgument, /not an absolute path/);
  await fails(call('Create', { id: '../x', bundle }), StatusCode.InvalidArgument, /not a file name/);
  await fails(create({ bundle: 'relative' }), StatusCode.InvalidArgument, /not an absolute path/);
  writeFileSync(join(bundle, 'config.json'), '{');
  await fails(create(), StatusCode.InvalidArgument, /not JSON/);
  assert.deepEqual(published, []);
  assert.equal(table.size, 0);
});

test('a Linux container on a node without a shim for it is told so, and nothing is left', async () => {
  writeConfig({}, { args: ['/init'], env: [] });
  mkdirSync(join(bundle, 'rootfs'));
  writeFileSync(join(bundle, 'rootfs', 'init'), '#!/bin/sh\n', { mode: 0o755 });
  process.env.SPINSHIM_LINUX_SHIM = '/nowhere/shim';
  const stderr = join(folder, `${id}.log`);
  await fails(create({ stderr: `file://${stderr}` }), StatusCode.NotFound, /not at "\/nowhere\/shim"/);
  delete process.env.SPINSHIM_LINUX_SHIM;
  assert.match(execFileSync('cat', [stderr], { encoding: 'utf8' }), /^this is a Linux container/);
  assert.deepEqual([published, table.size], [[], 0]);
  assert.deepEqual(readdirSync(bundle).sort(), ['config.json', 'rootfs']);
});

for (const [what, config] of [
  ['a specification that is none', '{'],
  ['a container without an image', undefined],
] as const) {
  test(`a creation that failed is answered when its client has read why: ${what}`, async () => {
    if (config === undefined) writeConfig({});
    else writeFileSync(join(bundle, 'config.json'), config);
    const stderr = join(bundle, 'stderr');
    makeFifo(stderr, 0o600);
    const reader = openSync(stderr, constants.O_RDONLY | constants.O_NONBLOCK);
    let isAnswered = false;
    const creation = create({ stderr }).finally(() => {
      isAnswered = true;
    });
    creation.catch(() => {});
    await waitFor('the reason', () => bytesInPipe(reader) > 0);
    for (let round = 0; round < 10; round++) await assert.rejects(call('State'));
    assert.equal(isAnswered, false);
    const reason = Buffer.alloc(bytesInPipe(reader));
    readSync(reader, reason);
    await assert.rejects(creation, ({ message }: Error) => `${message}\n` === reason.toString());
    closeSync(reader);
  });
}

test('a Spin container without an image fails with the reason in its log and no event', async () => {
  writeConfig({});
  const stderr = join(folder, `${id}.log`);
  await fails(create({ stderr: `file://${stderr}` }), StatusCode.NotFound, /no such image/);
  assert.equal(execFileSync('cat', [stderr], { encoding: 'utf8' }), 'no such image\n');
  assert.deepEqual(published, []);
  await fails(call('State'), StatusCode.NotFound, /not known/);
});
