import { join } from 'node:path';
import { ShimError } from '../error.ts';
import type { Logger } from '../telemetry/log.ts';
import type { CallContext } from '../ttrpc/service.ts';
import { type Bundle, readBundle, readBundleFile } from '../workload/bundle.ts';
import type { ExecProcess } from '../workload/exec-process.ts';
import type { LogOwner } from '../workload/log-driver.ts';
import { roleOf } from '../workload/sandbox-registry.ts';
import { parseProcess, parseResources } from '../workload/spec.ts';
import { type StdioPaths, TaskStdio } from '../workload/stdio.ts';
import { Task, type TaskObserver } from '../workload/task.ts';
import type { TaskExit } from '../workload/task-state.ts';
import type { Placement, WorkloadFactory } from '../workload/workload-factory.ts';
import { atMost } from './at-most.ts';
import type { LinuxTask } from './linux-task.ts';
import type { LinuxCreation, LinuxTasks } from './linux-tasks.ts';
import {
  type CreateRequest,
  type DeleteResponse,
  type Empty,
  type ExecRequest,
  type ExitResponse,
  type KillRequest,
  type PidResponse,
  type ProcessRequest,
  type StateResponse,
  type TaskHandlers,
  taskStatus,
  toTimestamp,
  type UpdateRequest,
} from './messages.ts';
import { encodeMetrics } from './metrics.ts';
import { maxOptionsBytes, parseRuntimeOptions } from './options.ts';
import { encodeTaskEvent, outOfMemoryToldMs, type TaskEvents } from './task-events.ts';
import type { AnyTask, TaskTable } from './task-table.ts';

/** Ids of tasks and processes as containerd makes them: no path, no more than a file name holds. */
const maxIdBytes = 255;

export type TaskServiceOptions = {
  readonly namespace: string;
  readonly table: TaskTable;
  readonly factory: WorkloadFactory;
  readonly linux: LinuxTasks;
  readonly log: Logger;
  /** Tells containerd. Must keep the order of the calls; resolves, and never rejects, when it has been told or never will be. */
  readonly publish: (topic: string, event: ReturnType<typeof encodeTaskEvent>['event']) => Promise<void>;
  /** A task's own log in its bundle, from its creation to its deletion. */
  readonly taskLog: { open(id: string, path: string): void; close(id: string): void };
};

/** The task service (containerd.md 3): requests → workload states, state changes → events. */
export class TaskService implements TaskHandlers {
  readonly #options: TaskServiceOptions;
  readonly #table: TaskTable;
  /** Of tasks that ran out of memory: when containerd has heard so. */
  readonly #outOfMemoryTold = new WeakMap<AnyTask, Promise<void>>();

  constructor(options: TaskServiceOptions) {
    this.#options = options;
    this.#table = options.table;
  }

  readonly Create = async (request: CreateRequest, context: CallContext): Promise<PidResponse> => {
    const { id } = request;
    checkId(id);
    this.#options.taskLog.open(id, join(request.bundle, 'log'));
    try {
      const task = await this.#table.create(id, context.signal, (signal, keep) =>
        this.#create(request, signal, keep),
      );
      return { pid: task.pid };
    } catch (error) {
      this.#options.log.error({ instance: id, err: error }, 'task not created');
      if (this.#table.find(id) === undefined) this.#options.taskLog.close(id);
      throw error;
    }
  };

  readonly Start = async ({ id, execId }: ProcessRequest): Promise<PidResponse> => {
    const task = this.#table.get(id);
    if (execId !== '') return { pid: (await task.startExec(execId)).pid };
    try {
      await task.start();
    } catch (error) {
      this.#options.log.error({ instance: id, err: error }, 'task not started');
      throw error;
    }
    return { pid: task.pid };
  };

  readonly State = async ({ id, execId }: ProcessRequest): Promise<StateResponse> => {
    const task = this.#table.get(id);
    if (execId !== '') return execState(task, task.exec(execId));
    const { state } = task;
    const exit = state.kind === 'stopped' ? state.exit : undefined;
    return {
      id,
      bundle: task.bundle,
      pid: task.pid,
      status: taskStatus[state.kind],
      ...task.stdioPaths,
      terminal: false,
      ...exitFields(exit),
      execId: '',
    };
  };

  readonly Wait = async ({ id, execId }: ProcessRequest): Promise<ExitResponse> => {
    const task = this.#table.get(id);
    if (execId !== '') return exitFields(await task.exec(execId).exit);
    const exit = await task.exit;
    // By this answer CRI learns of the end, and kubelet then asks once why: the reason has to be there before.
    const told = this.#outOfMemoryTold.get(task);
    if (told !== undefined) await atMost(told, outOfMemoryToldMs);
    return exitFields(exit);
  };

  readonly Kill = async ({ id, execId, signal, all }: KillRequest): Promise<Empty> => {
    const task = this.#table.get(id);
    if (execId === '') await task.kill(signal, all);
    else task.exec(execId).kill(signal);
    return {};
  };

  readonly Delete = async ({ id, execId }: ProcessRequest): Promise<DeleteResponse> => {
    if (execId !== '') {
      const task = this.#table.get(id);
      const { pid } = task.exec(execId);
      return { pid, ...exitFields(await task.deleteExec(execId)) };
    }
    this.#table.abortCreation(id);
    const task = this.#table.get(id);
    const exit = await task.delete();
    // Two deletions at once end together; only the first of them speaks.
    if (this.#table.find(id) === task) {
      const { exitStatus, exitedAt } = exitEventFields(exit);
      this.#publish('TaskDelete', { containerId: id, id, pid: task.pid, exitStatus, exitedAt });
      this.#forget(id);
    }
    return { pid: task.pid, ...exitFields(exit) };
  };

  readonly Pids: TaskHandlers['Pids'] = async ({ id }) => {
    const pids = await this.#table.get(id).pids();
    return { processes: pids.map((pid) => ({ pid })) };
  };

  readonly Pause: TaskHandlers['Pause'] = async ({ id }) => {
    await this.#table.get(id).pause();
    return {};
  };

  readonly Resume: TaskHandlers['Resume'] = async ({ id }) => {
    await this.#table.get(id).resume();
    return {};
  };

  readonly Checkpoint: TaskHandlers['Checkpoint'] = async ({ id }) => {
    this.#table.get(id);
    throw new ShimError(
      'unimplemented',
      `task "${id}" cannot be checkpointed: Spin apps are not supported there`,
    );
  };

  readonly Exec = async ({ id, execId, terminal, spec, ...request }: ExecRequest): Promise<Empty> => {
    const task = this.#table.get(id);
    checkId(execId, 'process');
    const { stdin, stdout, stderr } = request;
    const process = parseProcess(Buffer.from(spec?.value ?? []).toString('utf8') || '{}');
    const { namespace } = this.#options;
    const owner: LogOwner = { id: execId, namespace, directory: join(task.bundle, 'exec', execId) };
    task.addExec({ id: execId, terminal, process, stdioPaths: { stdin, stdout, stderr }, owner });
    return {};
  };

  readonly ResizePty: TaskHandlers['ResizePty'] = async ({ id, execId, width, height }) => {
    const task = this.#table.get(id);
    if (execId !== '') task.exec(execId).resize({ columns: width, rows: height });
    return {};
  };

  readonly CloseIO: TaskHandlers['CloseIO'] = async ({ id, execId, stdin }) => {
    const task = this.#table.get(id);
    if (execId === '') return {};
    const exec = task.exec(execId);
    if (stdin) exec.closeStdin();
    return {};
  };

  readonly Update = async ({ id, resources }: UpdateRequest): Promise<Empty> => {
    const task = this.#table.get(id);
    if (resources !== null) await task.update(parseResources(Buffer.from(resources.value).toString('utf8')));
    return {};
  };

  readonly Stats: TaskHandlers['Stats'] = async ({ id }) => {
    return { stats: encodeMetrics(await this.#table.get(id).stats()) };
  };

  readonly Connect: TaskHandlers['Connect'] = async ({ id }) => {
    return { shimPid: process.pid, taskPid: this.#table.get(id).pid, version: '' };
  };

  /** containerd says this after every task; the host has others and ends by itself when it is idle. */
  readonly Shutdown: TaskHandlers['Shutdown'] = async () => ({});

  async #create(
    request: CreateRequest,
    signal: AbortSignal,
    keep: (task: AnyTask) => void,
  ): Promise<AnyTask> {
    const { id, rootfs, stdin, stdout, stderr } = request;
    const { factory, log } = this.#options;
    const stdioPaths = { stdin, stdout, stderr };
    const owner: LogOwner = { id, namespace: this.#options.namespace, directory: request.bundle };
    let bundle: Bundle;
    let startBytes: Buffer;
    let placement: Placement;
    try {
      bundle = await readBundle(request.bundle);
      startBytes = await this.#readOptions(request);
      // Before the streams are opened: whoever opens a FIFO and closes it again ends the client's copying.
      placement = await factory.place({ id, bundle, rootMounts: rootfs });
    } catch (error) {
      await tellReason(stdioPaths, owner, error);
      throw error;
    }
    const role = roleOf(bundle.spec);
    const pod = role.kind === 'sandbox' ? id : role.sandboxId;
    const taskLog = log.child({ instance: id, ...(pod === undefined ? {} : { pod }) });
    taskLog.debug({ role: role.kind, placement: placement.kind }, 'creating task');
    const onCreated = (task: AnyTask): void => {
      keep(task);
      factory.created(id, bundle, task.pid);
    };
    if (placement.kind === 'linux') {
      const task = await this.#createLinux({ request, bundle, startBytes, log: taskLog, signal }).catch(
        async (error: unknown) => {
          await tellReason(stdioPaths, owner, error);
          throw error;
        },
      );
      if (signal.aborted) {
        await task.abandon();
        throw givenUp(id);
      }
      onCreated(task);
      taskLog.info({ pid: task.pid }, 'Linux container created');
      return task;
    }
    const stdio = await this.#openStdio(request, stdioPaths, owner).catch(async (error: unknown) => {
      await placement.release();
      throw error;
    });
    const workload = placement.make(stdio, signal);
    const observer = this.#observer(request, taskLog, onCreated);
    const task = await Task.create({ id, bundle: bundle.path, stdioPaths, stdio, workload, observer });
    if (signal.aborted) {
      // The caller is gone and takes it for failed: nobody would ever delete it.
      await this.Delete({ id, execId: '' });
      throw givenUp(id);
    }
    return task;
  }

  /** The streams of a container of ours, which has neither a terminal nor checkpoints. */
  async #openStdio(
    { id, terminal, checkpoint }: CreateRequest,
    paths: StdioPaths,
    owner: LogOwner,
  ): Promise<TaskStdio> {
    if (terminal) {
      throw new ShimError('invalid-argument', `task "${id}" asks for a terminal: Spin containers have none`);
    }
    if (checkpoint !== '') {
      throw new ShimError('unimplemented', `task "${id}" is to be restored: checkpoints are not supported`);
    }
    return TaskStdio.open(paths, owner);
  }

  #createLinux(creation: Omit<LinuxCreation, 'onLost' | 'onDeleted'>): Promise<LinuxTask> {
    const { id: containerId } = creation.request;
    const event = ({ pid }: LinuxTask, exit: ExitResponse): TaskEvents['TaskExit'] => ({
      containerId,
      id: containerId,
      pid,
      exitStatus: exit.exitStatus,
      exitedAt: exit.exitedAt ?? toTimestamp(new Date()),
    });
    return this.#options.linux.create({
      ...creation,
      onLost: (task, exit) => this.#publish('TaskExit', event(task, exit)),
      onDeleted: (task, exit, published) => {
        if (!published) this.#publish('TaskDelete', event(task, exit));
        this.#forget(containerId);
      },
    });
  }

  /** A task is gone from everywhere. */
  #forget(id: string): void {
    this.#table.delete(id);
    this.#options.factory.deleted(id);
    this.#options.log.info({ instance: id }, 'task deleted');
    this.#options.taskLog.close(id);
  }

  /** What containerd wrote to the standard input of `start`: its options for our runtime. */
  async #readOptions({ id, bundle }: CreateRequest): Promise<Buffer> {
    const bytes = await readBundleFile(bundle, 'options.pb', maxOptionsBytes);
    if (bytes === undefined) return Buffer.alloc(0);
    const { configPath, systemdCgroup } = parseRuntimeOptions(bytes, id, this.#options.namespace);
    this.#options.log.debug({ instance: id, configPath, systemdCgroup }, 'runtime options');
    return bytes;
  }

  #observer(request: CreateRequest, log: Logger, onCreated: (task: Task) => void): TaskObserver {
    const { id: containerId, bundle, rootfs, stdin, stdout, stderr } = request;
    return {
      created: (task) => {
        onCreated(task);
        const io = { stdin, stdout, stderr, terminal: false };
        this.#publish('TaskCreate', { containerId, bundle, rootfs, io, pid: task.pid });
        log.info({ pid: task.pid }, 'task created');
      },
      started: ({ pid }) => {
        this.#publish('TaskStart', { containerId, pid });
        log.info({ pid }, 'task started');
      },
      outOfMemory: (task) => {
        this.#outOfMemoryTold.set(task, this.#publish('TaskOOM', { containerId }));
        log.warn('task ran out of memory');
      },
      exited: ({ pid }, exit) => {
        this.#publish('TaskExit', { containerId, id: containerId, pid, ...exitEventFields(exit) });
        log.info({ pid, exitCode: exit.exitCode, reason: exit.reason }, 'task ended');
      },
      paused: () => this.#publish('TaskPaused', { containerId }),
      resumed: () => this.#publish('TaskResumed', { containerId }),
      execAdded: ({ id: execId }) => this.#publish('TaskExecAdded', { containerId, execId }),
      execStarted: ({ id: execId, pid }) => this.#publish('TaskExecStarted', { containerId, execId, pid }),
      execExited: ({ id, pid }, exit) => {
        this.#publish('TaskExit', { containerId, id, pid, ...exitEventFields(exit) });
        log.debug({ exec: id, exitCode: exit.exitCode }, 'exec ended');
      },
    };
  }

  #publish<Name extends keyof TaskEvents>(name: Name, fields: TaskEvents[Name]): Promise<void> {
    const { topic, event } = encodeTaskEvent(name, fields);
    return this.#options.publish(topic, event);
  }
}

function givenUp(id: string): ShimError {
  return new ShimError('unavailable', `creating task "${id}" was given up by its caller`);
}

/** Writes why a container could not be created into its standard error, as far as it has one. */
async function tellReason(paths: StdioPaths, owner: LogOwner, error: unknown): Promise<void> {
  const stdio = await TaskStdio.open(paths, owner).catch(() => undefined);
  await stdio?.tellReason(ShimError.from(error).message);
  void stdio?.close();
}

/** containerd asks for an exec before it makes one and wants `not-found` then, which `Task.exec` says. */
function execState(task: Task, exec: ExecProcess): StateResponse {
  const { state } = exec;
  return {
    id: task.id,
    bundle: task.bundle,
    pid: exec.pid,
    status: taskStatus[state.kind === 'dropped' ? 'stopped' : state.kind],
    ...exec.stdioPaths,
    terminal: exec.terminal,
    ...exitFields(state.kind === 'stopped' ? state.exit : undefined),
    execId: exec.id,
  };
}

function exitFields(exit: TaskExit | undefined): ExitResponse {
  return {
    exitStatus: exit?.exitCode ?? 0,
    exitedAt: exit === undefined ? null : toTimestamp(exit.exitedAt),
  };
}

function exitEventFields(exit: TaskExit): Pick<TaskEvents['TaskExit'], 'exitStatus' | 'exitedAt'> {
  return { exitStatus: exit.exitCode, exitedAt: toTimestamp(exit.exitedAt) };
}

function checkId(id: string, what: 'task' | 'process' = 'task'): void {
  if (id === '' || Buffer.byteLength(id) > maxIdBytes || /[/\0]/.test(id) || id === '.' || id === '..') {
    throw new ShimError('invalid-argument', `${what} id "${id.slice(0, maxIdBytes)}" is not a file name`);
  }
}
