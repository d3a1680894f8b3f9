import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { waitFor } from '../../test/support/wait.ts';
import { LogHub } from '../telemetry/log.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import type { CallContext } from '../ttrpc/service.ts';
import { StatusCode, TtrpcError } from '../ttrpc/status.ts';
import { LinuxShim } from '../workload/linux-shim.ts';
import { parseSpec } from '../workload/spec.ts';
import { LinuxGroup, LinuxGroups } from './linux-group.ts';
import { relayLinuxTasks } from './linux-relay.ts';
import { LinuxTask } from './linux-task.ts';
import {
  bindTaskService,
  type DeleteResponse,
  type ExitResponse,
  type TaskHandlers,
  taskProto,
  taskServiceNames,
  taskStatus,
} from './messages.ts';

/** A Linux shim that is a script for its verbs and a ttrpc server of this process for its service. */
class StandIn {
  readonly socket: string;
  readonly bundle: string;
  readonly calls: string[] = [];
  readonly exit = Promise.withResolvers<ExitResponse>();
  readonly seen: CallContext[] = [];
  readonly #server = new TtrpcServer({ closeGraceMs: 0 });
  readonly #folder: string;
  refusal: TtrpcError | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    this.socket = join(folder, 's');
    this.bundle = join(folder, 'bundle');
    mkdirSync(this.bundle);
    writeFileSync(join(this.bundle, 'address'), 'unix:///our/own.sock');
  }

  async listen(version: 0 | 1): Promise<void> {
    const note = <Req extends object, Res>(name: string, answer: (request: Req) => Res | Promise<Res>) => {
      return async (request: Req, context: CallContext): Promise<Res> => {
        const { execId } = request as { readonly execId?: string };
        this.calls.push(execId ? `${name} ${execId}` : name);
        this.seen.push(context);
        if (this.refusal !== undefined) throw this.refusal;
        return answer(request);
      };
    };
    const nothing = async () => ({});
    const handlers: TaskHandlers = {
      Connect: note('Connect', async () => ({ shimPid: process.pid, taskPid: 0, version: '' })),
      Create: note('Create', async () => ({ pid: process.ppid })),
      Wait: async () => this.exit.promise,
      Start: note('Start', async () => ({ pid: process.ppid })),
      Delete: note('Delete', async () => ({ pid: process.ppid, exitStatus: 3, exitedAt: null })),
      Shutdown: note('Shutdown', async () => {
        setImmediate(() => void this.end());
        return {};
      }),
      Pids: note('Pids', async () => ({ processes: [] })),
      State: () => Promise.reject(new Error('never asked')),
      Stats: () => Promise.reject(new Error('never asked')),
      Kill: note('Kill', nothing),
      Pause: nothing,
      Resume: nothing,
      Checkpoint: nothing,
      Exec: note('Exec', nothing),
      ResizePty: nothing,
      CloseIO: nothing,
      Update: nothing,
    };
    this.#server.register(taskServiceNames[version], bindTaskService(handlers));
    await this.#server.listen(this.socket);
  }

  end(): Promise<void> {
    return this.#server.close();
  }

  /** What the verbs of the script left: their names, in order. */
  get verbs(): string[] {
    const file = join(this.#folder, 'verbs');
    return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  }

  shim(answer = `unix://${this.socket}`, deleteAnswer: Uint8Array = Buffer.alloc(0)): LinuxShim {
    const path = join(this.#folder, 'containerd-shim-runc-v2');
    writeFileSync(join(this.#folder, 'deleted'), deleteAnswer);
    const text = [
      '#!/bin/sh',
      'for verb; do :; done',
      `echo "$verb" >> '${this.#folder}/verbs'`,
      `case "$verb" in start) echo theirs > address; printf '%s' '${answer}';; *) cat '${this.#folder}/deleted';; esac`,
    ];
    writeFileSync(path, text.join('\n'));
    chmodSync(path, 0o755);
    const site = {
      address: '/c',
      ttrpcAddress: '/c.ttrpc',
      namespace: 'ns',
      publishBinary: '',
      debug: false,
    };
    return new LinuxShim(path, site, 'c1', this.bundle);
  }
}

const root = mkdtempSync(join(tmpdir(), 'spinshim-linux-task-'));
const { logger: log } = new LogHub('fatal', { write: () => {} });
const never = new AbortController().signal;
let count = 0;
let peer: StandIn;
const told: string[] = [];
let outOfMemoryTold = Promise.withResolvers<void>();
let memoryKills = 0;

after(() => rmSync(root, { recursive: true }));

beforeEach(() => {
  told.length = 0;
  outOfMemoryTold = Promise.withResolvers();
  memoryKills = 0;
  const folder = join(root, String(count++));
  mkdirSync(folder);
  peer = new StandIn(folder);
});

function create(shim = peer.shim(), group = new LinuxGroup('pod'), signal = never): Promise<LinuxTask> {
  const streams = { stdin: '', stdout: '/o', stderr: '/e' };
  const request = {
    ...{ id: 'c1', bundle: peer.bundle, rootfs: [], terminal: true, ...streams },
    ...{ checkpoint: '', parentCheckpoint: '', options: null },
  };
  const options = {
    ...{ namespace: 'ns', request, shim, group, startInput: new Uint8Array(), createOptions: null, log },
    deletionTold: Promise.resolve(),
    memoryKills: () => memoryKills,
    tellOutOfMemory: () => {
      told.push('out of memory');
      return outOfMemoryTold.promise;
    },
    onLost: (_: LinuxTask, exit: ExitResponse) => told.push(`lost ${exit.exitStatus}`),
    onDeleted: (_: LinuxTask, exit: ExitResponse, published: boolean) =>
      told.push(`deleted ${exit.exitStatus} ${published ? 'there' : 'here'}`),
  };
  return LinuxTask.create(options, signal);
}

type Answer<Name extends keyof TaskHandlers> = Awaited<ReturnType<TaskHandlers[Name]>>;

/** A call as the router passes it on: through bytes. */
async function call<Name extends keyof TaskHandlers>(
  task: LinuxTask,
  name: Name,
  fields: object = {},
  context: Partial<CallContext> = {},
): Promise<Answer<Name>> {
  const codec = taskProto.method<object, Answer<Name>>(taskServiceNames[0], name);
  const payload = Buffer.from(codec.requestSerialize({ id: 'c1', ...fields }));
  const whole = { service: '', method: name, metadata: new Map(), signal: never, deadline: undefined };
  return codec.responseDeserialize(Buffer.from(await task.call(name, payload, { ...whole, ...context })));
}

function deleteAnswer(exitStatus: number): Uint8Array {
  const codec = taskProto.message<DeleteResponse>('containerd.task.v2.DeleteResponse');
  return codec.serialize({ pid: 9, exitStatus, exitedAt: { seconds: 5, nanos: 0 } });
}

test('a container lives and is deleted behind our address', async () => {
  await peer.listen(0);
  const task = await create();
  assert.equal(task.pid, process.ppid);
  assert.equal(readFileSync(join(peer.bundle, 'address'), 'utf8'), 'unix:///our/own.sock');
  assert.equal(readFileSync(join(peer.bundle, 'runc-address'), 'utf8'), `unix://${peer.socket}\n`);
  const pids = readFileSync(join(peer.bundle, 'pids'), 'utf8').trim().split('\n');
  assert.deepEqual(
    pids.map((line) => Number(line.split(' ')[0])),
    [process.ppid, process.pid],
  );
  await call(task, 'Start');
  await call(task, 'Exec', { execId: 'e' });
  await call(task, 'Delete', { execId: 'e' });
  assert.deepEqual(told, []);
  assert.equal((await call(task, 'Delete')).exitStatus, 3);
  assert.deepEqual(peer.calls, ['Connect', 'Create', 'Start', 'Exec e', 'Delete e', 'Delete', 'Shutdown']);
  assert.deepEqual(told, ['deleted 3 there']);
  assert.deepEqual(readdirSync(peer.bundle), ['address']);
  assert.deepEqual(peer.verbs, ['start'], 'nothing is left for delete to do');
  await assert.rejects(call(task, 'Start'), { code: StatusCode.NotFound });
});

test('who waits for a container hears of its end, also when its shim has ended before it told them', async () => {
  await peer.listen(0);
  const task = await create();
  const waiters = Array.from({ length: 3 }, () => call(task, 'Wait'));
  assert.equal((await call(task, 'Delete')).exitStatus, 3);
  for (const { exitStatus } of await Promise.all(waiters)) assert.equal(exitStatus, 3);
  await assert.rejects(call(task, 'Wait'), { code: StatusCode.NotFound });
});

test('who waits for a container that is given up hears that there is none', async () => {
  await peer.listen(0);
  const task = await create();
  const refused = assert.rejects(call(task, 'Wait'), { code: StatusCode.NotFound });
  await task.abandon();
  await refused;
});

test('an end for want of memory is told after the want of memory', async () => {
  await peer.listen(0);
  const task = await create();
  memoryKills = 1;
  peer.exit.resolve({ exitStatus: 137, exitedAt: null });
  let isTold = false;
  const waiting = call(task, 'Wait').then(({ exitStatus }) => {
    isTold = true;
    return exitStatus;
  });
  for (let round = 0; round < 10; round++) await call(task, 'Pids');
  assert.deepEqual([isTold, told], [false, ['out of memory']]);
  outOfMemoryTold.resolve();
  assert.equal(await waiting, 137);
  await task.abandon();
});

test('an end for want of memory is not told again if the shim dies before that was told', async () => {
  await peer.listen(0);
  const task = await create(peer.shim(undefined, deleteAnswer(9)));
  memoryKills = 1;
  peer.exit.resolve({ exitStatus: 137, exitedAt: null });
  const waiting = call(task, 'Wait');
  await waitFor('the want of memory', () => told.length > 0);
  await peer.end();
  assert.equal((await waiting).exitStatus, 137);
  assert.equal((await call(task, 'State')).exitStatus, 137);
  assert.deepEqual(told, ['out of memory']);
});

test('version 3, metadata, deadlines and refusals pass through', async () => {
  await peer.listen(1);
  const address = JSON.stringify({ version: 3, address: `unix://${peer.socket}`, protocol: 'ttrpc' });
  const task = await create(peer.shim(address));
  const metadata = new Map([['traceparent', ['00-1']]]);
  await call(task, 'Kill', { signal: 9 }, { metadata, deadline: performance.now() + 60_000 });
  const seen = peer.seen.at(-1);
  assert.deepEqual(seen?.metadata.get('containerd-namespace-ttrpc'), ['ns']);
  assert.deepEqual(seen?.metadata.get('traceparent'), ['00-1']);
  assert.ok((seen?.deadline ?? Number.POSITIVE_INFINITY) <= performance.now() + 60_000);
  peer.refusal = new TtrpcError(StatusCode.FailedPrecondition, 'cannot start a running process');
  await assert.rejects(call(task, 'Start'), {
    code: StatusCode.FailedPrecondition,
    message: /^cannot start a running process$/,
  });
  peer.refusal = undefined;
  await assert.rejects(call(task, 'Start', {}, { deadline: performance.now() - 1 }), {
    code: StatusCode.DeadlineExceeded,
  });
  await task.abandon();
});

test('a known task always has a pid', async () => {
  await peer.listen(0);
  const task = await create();
  assert.deepEqual(
    (await call(task, 'Pids')).processes.map(({ pid }) => pid),
    [process.ppid],
  );
  peer.refusal = new TtrpcError(StatusCode.Unknown, 'runc did not terminate successfully');
  await assert.rejects(call(task, 'Pids'), /runc did not/);
  peer.exit.resolve({ exitStatus: 0, exitedAt: null });
  await call(task, 'Wait');
  assert.deepEqual(
    (await call(task, 'Pids')).processes.map(({ pid }) => pid),
    [process.ppid],
  );
  peer.refusal = undefined;
  await task.abandon();
});

test('a shim that dies takes its container with it, and the task is answered for', async () => {
  await peer.listen(0);
  const task = await create(peer.shim(undefined, deleteAnswer(137)));
  const waiting = call(task, 'Wait');
  await peer.end();
  assert.equal((await waiting).exitStatus, 137);
  assert.deepEqual(told, ['lost 137']);
  assert.deepEqual(peer.verbs, ['start', 'delete']);
  assert.ok(!existsSync(peer.socket));
  const state = await call(task, 'State');
  assert.deepEqual([state.status, state.exitStatus, state.stdout], [taskStatus.stopped, 137, '/o']);
  assert.equal((await call(task, 'Connect')).taskPid, task.pid);
  assert.equal((await call(task, 'Pids')).processes.length, 1);
  for (const name of ['Kill', 'Start', 'Stats', 'Exec'] as const) {
    await assert.rejects(call(task, name), { code: 'not-found' }, name);
  }
  await assert.rejects(call(task, 'Wait', { execId: 'e' }), { code: 'not-found' });
  assert.equal((await call(task, 'Delete')).exitStatus, 137);
  assert.deepEqual(told, ['lost 137', 'deleted 137 here']);
  assert.deepEqual(readdirSync(peer.bundle), ['address']);
});

test('an end that was seen before the shim died is not told again', async () => {
  await peer.listen(0);
  const task = await create(peer.shim(undefined, deleteAnswer(137)));
  peer.exit.resolve({ exitStatus: 4, exitedAt: { seconds: 1, nanos: 0 } });
  assert.equal((await call(task, 'Wait')).exitStatus, 4);
  await peer.end();
  assert.equal((await call(task, 'State')).exitStatus, 4);
  assert.deepEqual(told, []);
});

test('an end that nobody can tell of is 255', async () => {
  await peer.listen(0);
  const task = await create();
  await peer.end();
  assert.equal((await call(task, 'Wait')).exitStatus, 255);
});

test('a creation that fails leaves nothing', async () => {
  await assert.rejects(create(peer.shim('level=error msg="no"')), { code: 'unsupported' });
  assert.deepEqual(readdirSync(peer.bundle), ['address']);
  await assert.rejects(create(), { code: StatusCode.Unavailable });
  assert.deepEqual(readdirSync(peer.bundle), ['address']);
  await peer.listen(0);
  const group = new LinuxGroup('pod');
  const refused = new TtrpcError(StatusCode.Unknown, 'OCI runtime create failed');
  peer.refusal = refused;
  await assert.rejects(create(peer.shim(), group), { message: refused.message });
  assert.deepEqual(readdirSync(peer.bundle), ['address']);
  assert.equal(peer.verbs.at(-1), 'delete');
  assert.ok(peer.calls.includes('Shutdown'));
  assert.ok(group.idle);
  await peer.end();
});

test('containers of a pod share a group, others have their own', () => {
  const groups = new LinuxGroups();
  const spec = (annotations: object) => parseSpec(JSON.stringify({ annotations }));
  const inPod = spec({ 'io.kubernetes.cri.sandbox-id': 'p' });
  const first = groups.of('a', inPod);
  first.add(first);
  assert.equal(groups.of('b', inPod), first);
  assert.equal(groups.of('p', spec({})), first);
  assert.notEqual(groups.of('c', spec({})), first);
  assert.notEqual(groups.of('d', spec({ 'io.containerd.runc.v2.group': 'g' })), first);
  first.delete(first);
  assert.notEqual(groups.of('b', inPod), first, 'an idle group is forgotten');
});

test('only calls about Linux containers are relayed', async () => {
  await peer.listen(0);
  const task = await create();
  const own: string[] = [];
  const bound = (name: string) => async (): Promise<Uint8Array> => {
    own.push(name);
    return new Uint8Array();
  };
  const names = ['Create', 'Shutdown', 'Start'];
  const methods = relayLinuxTasks(new Map(names.map((name) => [name, bound(name)])), (id) =>
    id === 'c1' ? task : undefined,
  );
  const context = { service: '', method: '', metadata: new Map(), signal: never, deadline: undefined };
  const bytes = (id: string) => Buffer.concat([Buffer.from([10, id.length]), Buffer.from(id)]);
  for (const name of names) await methods.get(name)?.(bytes('c1'), context);
  assert.deepEqual(own, ['Create', 'Shutdown']);
  assert.equal(peer.calls.at(-1), 'Start');
  await methods.get('Start')?.(bytes('c2'), context);
  await methods.get('Start')?.(Buffer.from([10, 200]), context);
  assert.deepEqual(own.slice(2), ['Start', 'Start']);
  await task.abandon();
});
