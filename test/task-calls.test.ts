// Every call of the task service in every state of every kind of task, against the real shim, with the code that each is to be
// answered with; and what is asked at once while a task ends. containerd itself keeps most of these calls from a shim.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type TaskHandlers, taskStatus } from '../src/containerd/messages.ts';
import { StatusCode, TtrpcError } from '../src/ttrpc/status.ts';
import { PlayedContainerd, type TaskKind, taskKinds } from './support/played-containerd.ts';
import { suiteTimeoutMs, waitFor } from './support/wait.ts';

/** Where a task, or a process of an exec, is in its life. */
const taskStates = ['created', 'running', 'paused', 'stopped', 'deleted'] as const;
const execStates = ['created', 'running', 'stopped', 'deleted'] as const;
type TaskState = (typeof taskStates)[number];
type ExecState = (typeof execStates)[number];
type Method = keyof TaskHandlers;

/** What answers a call: `ok`, or the name of a status; `waits` when there is no answer before the task's end. */
type Outcome = 'ok' | 'waits' | keyof typeof StatusCode;

const [ok, waits] = ['ok', 'waits'] as const;
const [gone, refused, taken] = ['NotFound', 'FailedPrecondition', 'AlreadyExists'] as const;
const none = 'Unimplemented';
/** What containerd-shim-runc-v2 of containerd 1.6 says where it has no better word. */
const plain = 'Unknown';

type Rows = Readonly<Partial<Record<Method, readonly Outcome[]>>>;

/** Call → answers in the order of `taskStates`, of the kinds that are our own. */
const ownTable: Rows = {
  State: [ok, ok, ok, ok, gone],
  Create: [taken, taken, taken, taken, ok],
  Start: [ok, refused, refused, refused, gone],
  Wait: [waits, waits, waits, ok, gone],
  Kill: [ok, ok, ok, gone, gone],
  Delete: [ok, refused, refused, ok, gone],
  Pids: [ok, ok, ok, ok, gone],
  Pause: [refused, ok, refused, refused, gone],
  Resume: [refused, refused, ok, refused, gone],
  Checkpoint: [none, none, none, none, gone],
  Exec: [refused, ok, refused, refused, gone],
  ResizePty: [ok, ok, ok, ok, gone],
  CloseIO: [ok, ok, ok, ok, gone],
  Update: [ok, ok, ok, refused, gone],
  Stats: [ok, ok, ok, ok, gone],
  Connect: [ok, ok, ok, ok, gone],
  Shutdown: [ok, ok, ok, ok, ok],
};

/** The same for every kind. Linux containers answer as their own shim does, of the containerd that is on the PATH. */
const taskTable: Readonly<Record<TaskKind, Rows>> = {
  sandbox: { ...ownTable, Exec: [none, none, none, none, gone] },
  Spin: ownTable,
  Linux: {
    ...ownTable,
    Start: [ok, plain, plain, plain, gone],
    Delete: [ok, plain, plain, ok, gone],
    Pause: [plain, ok, plain, plain, gone],
    Resume: [plain, plain, ok, plain, gone],
    Checkpoint: [plain, plain, plain, plain, gone],
    Exec: [ok, ok, plain, plain, gone],
    Update: [ok, ok, ok, plain, gone],
  },
};

/** Call about a process of an exec → answers in the order of `execStates`. */
const execTable: Readonly<Record<'Spin' | 'Linux', Rows>> = {
  Spin: {
    State: [ok, ok, ok, gone],
    Exec: [taken, taken, taken, ok],
    Start: [ok, refused, refused, gone],
    Wait: [waits, waits, ok, gone],
    Kill: [refused, ok, gone, gone],
    Delete: [ok, refused, ok, gone],
    ResizePty: [ok, ok, ok, gone],
    CloseIO: [ok, ok, ok, gone],
  },
  Linux: {
    State: [ok, ok, ok, gone],
    Exec: [taken, taken, taken, ok],
    Start: [ok, plain, plain, gone],
    Wait: [waits, waits, ok, gone],
    Kill: [refused, ok, gone, gone],
    Delete: [ok, plain, ok, gone],
    ResizePty: [ok, ok, plain, gone],
    CloseIO: [ok, ok, ok, plain],
  },
};

/** Calls after which a task, or an exec, is not in the state any more in which it was asked. */
const changing: ReadonlySet<Method> = new Set([
  'Create',
  'Start',
  'Kill',
  'Delete',
  'Pause',
  'Resume',
  'Exec',
]);

describe('calls of the task service', { timeout: 2 * suiteTimeoutMs }, () => {
  let containerd: PlayedContainerd;
  before(async () => {
    containerd = await PlayedContainerd.start();
  });
  after(() => containerd.stop());

  const call = <Name extends Method>(name: Name, id: string, fields: object = {}) =>
    containerd.call(name, id, fields);

  async function reach(kind: TaskKind, state: TaskState): Promise<string> {
    const id = await containerd.prepare(kind);
    await call('Create', id);
    if (state === 'created') return id;
    await call('Start', id);
    if (state === 'paused') await call('Pause', id);
    if (state === 'running' || state === 'paused') return id;
    await call('Kill', id, { signal: 9 });
    await call('Wait', id);
    if (state === 'deleted') await call('Delete', id);
    return id;
  }

  async function reachExec(kind: TaskKind, id: string, execId: string, state: ExecState): Promise<void> {
    await call('Exec', id, { execId, spec: containerd.lastingProcess(kind) });
    if (state === 'created') return;
    await call('Start', id, { execId });
    if (state === 'running') return;
    await call('Kill', id, { execId, signal: 9 });
    await call('Wait', id, { execId });
    if (state === 'deleted') await call('Delete', id, { execId });
  }

  /** What is given with a call besides the ids. */
  function fieldsOf(name: Method, kind: TaskKind): object {
    if (name === 'Kill') return { signal: 9 };
    if (name === 'Exec') return { execId: 'more', spec: containerd.lastingProcess(kind) };
    if (name === 'ResizePty') return { width: 80, height: 25 };
    if (name === 'CloseIO') return { stdin: true };
    if (name !== 'Update') return {};
    const type_url = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
    return { resources: { type_url, value: Buffer.from('{"pids":{"limit":500}}') } };
  }

  /** How a call is answered. One that should wait is given up on when a later call about the same task has been answered. */
  async function outcomeOf(asked: Promise<unknown>, shouldWait?: string): Promise<Outcome> {
    const answer = asked.then(
      (): Outcome => 'ok',
      (error: unknown): Outcome => {
        assert.ok(error instanceof TtrpcError, String(error));
        const found = Object.entries(StatusCode).find(([, code]) => code === error.code);
        return (found?.[0] ?? String(error.code)) as Outcome;
      },
    );
    if (shouldWait === undefined) return answer;
    const later = call('Pids', shouldWait).then((): Outcome => 'waits');
    return Promise.race([answer, later]);
  }

  /** Ends and deletes a task in whatever state. */
  async function remove(id: string): Promise<void> {
    for (const name of ['Resume', 'Kill', 'Wait', 'Delete'] as const) {
      if (name === 'Wait' && (await call('State', id).catch(() => undefined)) === undefined) return;
      await call(name, id, name === 'Kill' ? { signal: 9 } : {}).catch(() => {});
    }
    assert.equal(await outcomeOf(call('State', id)), 'NotFound', id);
  }

  for (const kind of taskKinds) {
    taskStates.forEach((state, index) => {
      test(`${kind}, ${state}`, async () => {
        const rows = Object.entries(taskTable[kind]).map(
          ([name, answers]) => [name as Method, answers[index]] as const,
        );
        const found: Record<string, Outcome> = {};
        const shared = await reach(kind, state);
        for (const [name, expected] of rows) {
          const changes = changing.has(name) && expected === 'ok';
          const id = changes ? await reach(kind, state) : shared;
          const asked = call(name, id, fieldsOf(name, kind));
          found[name] = await outcomeOf(asked, expected === 'waits' ? id : undefined);
          if (changes) await remove(id);
        }
        await remove(shared);
        assert.deepEqual(found, Object.fromEntries(rows));
      });
    });
  }

  for (const kind of ['Spin', 'Linux'] as const) {
    test(`${kind}, processes of execs`, async () => {
      const id = await reach(kind, 'running');
      const table = execTable[kind];
      const found: Record<string, Outcome[]> = {};
      for (const [word] of Object.entries(table)) {
        const name = word as Method;
        found[name] = [];
        for (const state of execStates) {
          const execId = `${name}-${state}`;
          await reachExec(kind, id, execId, state);
          const asked = call(name, id, { ...fieldsOf(name, kind), execId });
          const shouldWait = table[name]?.[execStates.indexOf(state)] === 'waits';
          found[name].push(await outcomeOf(asked, shouldWait ? id : undefined));
        }
      }
      for (const { execId } of containerd.toldOf(id)) {
        if (execId === '') continue;
        await call('Kill', id, { execId, signal: 9 }).catch(() => {});
        await call('Delete', id, { execId }).catch(() => {});
      }
      await remove(id);
      assert.deepEqual(found, table);
    });

    test(`${kind}, processes of execs of a task that has ended`, async () => {
      const id = await reach(kind, 'running');
      await reachExec(kind, id, 'waiting', 'created');
      await reachExec(kind, id, 'living', 'running');
      const ends = [call('Wait', id, { execId: 'living' }), call('Wait', id)] as const;
      await call('Kill', id, { signal: 9 });
      for (const { exitStatus } of await Promise.all(ends)) assert.equal(exitStatus, 137);
      const start = await outcomeOf(call('Start', id, { execId: 'waiting' }));
      assert.equal(start, kind === 'Spin' ? 'FailedPrecondition' : 'Unknown');
      assert.equal((await call('State', id, { execId: 'living' })).status, taskStatus.stopped);
      for (const execId of ['waiting', 'living']) await call('Delete', id, { execId });
      await call('Delete', id);
      const topics = await containerd.topicsAtEnd(id);
      assert.deepEqual(
        topics.filter((topic) => /^(exit|delete)/.test(topic) && !/^delete ./.test(topic)),
        ['exit living', 'exit', 'delete'],
      );
    });
  }

  for (const kind of taskKinds) {
    test(`${kind}: 100 waiters from before the start hear of one end`, async () => {
      const id = await reach(kind, 'created');
      const waiters = Array.from({ length: 100 }, () => call('Wait', id));
      await call('Start', id);
      await call('Kill', id, { signal: 9 });
      const [first, ...others] = await Promise.all(waiters);
      assert.equal(first?.exitStatus, 137);
      for (const other of others) assert.deepEqual(other, first);
      assert.deepEqual(await call('Wait', id), first);
      const { exitStatus, exitedAt } = await call('Delete', id);
      assert.deepEqual({ exitStatus, exitedAt }, first);
      assert.deepEqual(await containerd.topicsAtEnd(id), ['create', 'start', 'exit', 'delete']);
    });

    test(`${kind}: State, Wait and Delete at once while it ends, again and again`, async () => {
      for (let round = 0; round < 10; round++) {
        const id = await reach(kind, 'running');
        const end = call('Wait', id);
        const states = Array.from({ length: 20 }, () => outcomeOf(call('State', id)));
        const kill = call('Kill', id, { signal: 9 });
        const late = Array.from({ length: 20 }, () => outcomeOf(call('Wait', id)));
        const deletions = Array.from({ length: 5 }, () =>
          waitFor('the deletion', async () => {
            const outcome = await outcomeOf(call('Delete', id));
            return ['ok', 'NotFound'].includes(outcome) && outcome;
          }),
        );
        await kill;
        assert.equal((await end).exitStatus, 137);
        assert.ok((await Promise.all(deletions)).includes('ok'));
        for (const outcome of [...(await Promise.all(states)), ...(await Promise.all(late))])
          assert.match(outcome, /^(ok|NotFound)$/);
        assert.equal(await outcomeOf(call('State', id)), 'NotFound');
        assert.deepEqual(await containerd.topicsAtEnd(id), ['create', 'start', 'exit', 'delete']);
      }
    });
  }
});
