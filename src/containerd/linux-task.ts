import { readFile, rm, writeFile } from 'node:fs/promises';
import { ShimError } from '../error.ts';
import type { Logger } from '../telemetry/log.ts';
import { type CallOptions, TtrpcClient } from '../ttrpc/client.ts';
import { type CallContext, coded, type MethodCodec } from '../ttrpc/service.ts';
import { StatusCode, TtrpcError } from '../ttrpc/status.ts';
import { LinuxBundle } from '../workload/linux-bundle.ts';
import type { LinuxShim } from '../workload/linux-shim.ts';
import { atMost } from './at-most.ts';
import { parseShimAddress, type ShimAddress } from './linux-address.ts';
import type { LinuxGroup } from './linux-group.ts';
import {
  type AnyMessage,
  type CreateRequest,
  type DeleteResponse,
  type ExitResponse,
  type ProcessRequest,
  type TaskHandlers,
  taskProto,
  taskServiceNames,
  taskStatus,
  toTimestamp,
} from './messages.ts';
import { outOfMemoryToldMs } from './task-events.ts';

/** The key under which a call says its containerd namespace; not every call of containerd's has it. */
const namespaceKey = 'containerd-namespace-ttrpc';

/** Longest wait for one of the Linux shim's answers to a call of ours, milliseconds. */
const callTimeoutMs = 5_000;

/** Longest wait for the Linux shim's process to end once it has nothing left to serve, milliseconds. */
const shutdownTimeoutMs = 3_000;

/** Longest wait for the Linux shim's event of a deletion, milliseconds. It is sent at once. */
const deletionEventTimeoutMs = 2_000;

/** Exit status of a container that was killed. */
const killedExitStatus = 137;

/** Exit status of a container whose end nobody has seen, as containerd says it. */
const unknownExitStatus = 255;

const rawCodec: MethodCodec<Uint8Array, Uint8Array> = {
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: (bytes) => bytes,
  responseDeserialize: (bytes) => bytes,
};

type MethodName = keyof TaskHandlers;
type ResponseOf<Name extends MethodName> = Awaited<ReturnType<TaskHandlers[Name]>>;

function codecOf<Name extends MethodName>(name: Name): MethodCodec<object, ResponseOf<Name>> {
  return taskProto.method<object, ResponseOf<Name>>(taskServiceNames[0], name);
}

const codecs = {
  State: codecOf('State'),
  Create: codecOf('Create'),
  Delete: codecOf('Delete'),
  Pids: codecOf('Pids'),
  Wait: codecOf('Wait'),
  Connect: codecOf('Connect'),
  Shutdown: codecOf('Shutdown'),
};

const processCodec = taskProto.message<ProcessRequest>('containerd.task.v2.ProcessRequest');
const deleteCodec = taskProto.message<DeleteResponse>('containerd.task.v2.DeleteResponse');

function processOf(payload: Buffer): ProcessRequest {
  return coded(StatusCode.InvalidArgument, 'malformed request', () => processCodec.deserialize(payload));
}

export type LinuxTaskOptions = {
  readonly namespace: string;
  readonly request: CreateRequest;
  readonly shim: LinuxShim;
  /** The containers that share a Linux shim. */
  readonly group: LinuxGroup;
  /** Standard input of the Linux shim's `start`, and the options of its Create. */
  readonly startInput: Uint8Array;
  readonly createOptions: AnyMessage | null;
  readonly log: Logger;
  /** Resolves when the Linux shim has told of the container's deletion. */
  readonly deletionTold: Promise<void>;
  /** Processes of the container that the kernel has killed for want of memory, or of its pod. */
  readonly memoryKills: () => number;
  /** Resolves when containerd has heard that the container wanted for memory. */
  readonly tellOutOfMemory: () => Promise<void>;
  /** Told of an end that the Linux shim did not live to publish. */
  readonly onLost: (task: LinuxTask, exit: ExitResponse) => void;
  /** Told when the task is deleted; `published` is whether the Linux shim has told containerd so. */
  readonly onDeleted: (task: LinuxTask, exit: ExitResponse, published: boolean) => void;
};

/**
 * A Linux container, run by `containerd-shim-runc-v2`: containerd's calls go there byte for byte, and the events come
 * from there (containerd.md 9.2 B). If that shim dies, the container is ended and its task answered for from here.
 */
export class LinuxTask {
  readonly id: string;
  readonly bundle: string;
  readonly #options: LinuxTaskOptions;
  readonly #files: LinuxBundle;
  readonly #metadata: ReadonlyMap<string, readonly string[]>;
  #address: ShimAddress | undefined;
  #client: TtrpcClient | undefined;
  #pid = 0;
  #exit: ExitResponse | undefined;
  /** Resolves with `#exit` when it may be told, rejects when the task is given up. */
  readonly #end = Promise.withResolvers<ExitResponse>();
  #state: 'creating' | 'served' | 'deleted' = 'creating';
  /** Pending as long as the Linux shim lives; then the end of cleaning up after it. */
  readonly #lost = Promise.withResolvers<ExitResponse>();
  readonly #closed = Promise.withResolvers<void>();

  private constructor(options: LinuxTaskOptions) {
    this.id = options.request.id;
    this.bundle = options.request.bundle;
    this.#options = options;
    this.#files = new LinuxBundle(this.bundle);
    this.#metadata = new Map([[namespaceKey, [options.namespace]]]);
    this.#end.promise.catch(() => {});
  }

  /** Boots the Linux shim, or finds the pod's, and creates the container. Undoes everything if that fails. */
  static create(options: LinuxTaskOptions, signal: AbortSignal): Promise<LinuxTask> {
    const task = new LinuxTask(options);
    return options.group.run(async () => {
      try {
        await task.#create(signal);
        options.group.add(task);
        return task;
      } catch (error) {
        await task.#undo();
        throw error;
      }
    });
  }

  get pid(): number {
    return this.#pid;
  }

  /**
   * Relays a call: the request's bytes there, the answer's bytes back, a refusal with its code and text. Those who wait for the
   * container's end hear of it from here: its shim works at all calls at once, and may have deleted the container, and ended
   * itself, before it answers who waited.
   */
  async call(method: string, payload: Buffer, context: CallContext): Promise<Uint8Array> {
    const { client, service } = this.#peer();
    if (method === 'Wait' && processOf(payload).execId === '') {
      return codecs.Wait.responseSerialize(await this.#ending());
    }
    try {
      const answer = await client.call(service, method, rawCodec, payload, this.#relayOptions(context));
      if (method === 'Pids' && answer.length === 0) return this.#ownPid();
      if (method === 'Delete' && processOf(payload).execId === '') {
        await this.#release(codecs.Delete.responseDeserialize(Buffer.from(answer)), true);
      }
      return answer;
    } catch (error) {
      // Without a pid containerd, when it restarts, takes a task that has ended for a leak and forgets its exit code.
      if (method === 'Pids' && this.#exit !== undefined) return this.#ownPid();
      if (!client.closed || context.signal.aborted) throw error;
      if (this.#state === 'deleted') throw this.#unknown();
      return this.#answer(method, payload, await this.#lost.promise);
    }
  }

  /** Ends and removes the container, whatever it is doing. */
  async abandon(): Promise<void> {
    this.#state = 'deleted';
    this.#end.reject(this.#unknown());
    this.#options.group.delete(this);
    await this.#options.group.run(() => this.#undo());
  }

  async #create(signal: AbortSignal): Promise<void> {
    const { request, shim, group, startInput, createOptions } = this.#options;
    const { id } = request;
    const directory = await this.#files.prepare(shim.binary);
    const address = parseShimAddress(
      await shim.start({ directory, name: group.name, input: startInput }, signal),
    );
    this.#address = address;
    await this.#files.noteAddress(`unix://${address.path}`);
    const client = await TtrpcClient.connect(address.path, {
      onClose: () => {
        this.#closed.resolve();
        if (this.#state === 'served') void this.#lose();
      },
    });
    this.#client = client;
    const { shimPid } = await this.#ask('Connect', codecs.Connect, { id });
    await this.#files.noteShimProcess(shimPid);
    await scoreAsOwn(shimPid);
    const creation = { ...request, options: createOptions };
    const options = { metadata: this.#metadata, signal };
    const { pid } = await client.call(address.service, 'Create', codecs.Create, creation, options);
    this.#pid = pid;
    // What its pod has had of them until now is none of its own.
    this.#options.memoryKills();
    await this.#files.noteProcesses(pid, shimPid);
    if (client.closed) throw new ShimError('unavailable', `the shim of Linux container "${id}" has ended`);
    this.#state = 'served';
    void this.#watch(client, address);
  }

  /** Learns of the container's end, for all who wait for it, and so that it is known if the Linux shim dies after it. */
  async #watch(client: TtrpcClient, { service }: ShimAddress): Promise<void> {
    const wait = client.call(service, 'Wait', codecs.Wait, { id: this.id }, { metadata: this.#metadata });
    // Where it fails, the end is learnt of by the container's deletion, or by the loss of its shim.
    const exit = await wait.catch(() => undefined);
    if (exit === undefined) return;
    // At once: if the shim dies from here on, the end is not told a second time.
    this.#exit ??= exit;
    // Who waits learns of the end, and CRI asks once why: the reason has to be there before.
    const { memoryKills, tellOutOfMemory } = this.#options;
    if (exit.exitStatus === killedExitStatus && memoryKills() > 0)
      await atMost(tellOutOfMemory(), outOfMemoryToldMs);
    this.#hasEnded(exit);
  }

  /** The container's end, whoever tells of it first. */
  #hasEnded(exit: ExitResponse): void {
    this.#exit ??= exit;
    this.#end.resolve(this.#exit);
  }

  async #ending(): Promise<ExitResponse> {
    if (this.#state === 'deleted') throw this.#unknown();
    return this.#end.promise;
  }

  /** The Linux shim is gone without having been told to: what it ran is ended, and its end made known. */
  async #lose(): Promise<void> {
    const { shim, group, log, onLost } = this.#options;
    log.error({ pid: this.#pid }, 'the shim of a Linux container has died; the container is ended');
    group.delete(this);
    await group.run(async () => {
      const answer = await shim.delete().catch((error: unknown) => {
        log.error({ err: error }, 'a Linux container whose shim has died could not be cleaned up');
        return Buffer.alloc(0);
      });
      await this.#removeSocket();
      const seen = this.#exit;
      const { exitStatus, exitedAt } =
        answer.length > 0
          ? deleteCodec.deserialize(answer)
          : { exitStatus: unknownExitStatus, exitedAt: toTimestamp(new Date()) };
      const exit = seen ?? { exitStatus, exitedAt };
      if (seen === undefined) onLost(this, exit);
      this.#hasEnded(exit);
      this.#lost.resolve(exit);
    });
  }

  /** Answers in the place of a Linux shim that has died. */
  async #answer(method: string, payload: Buffer, exit: ExitResponse): Promise<Uint8Array> {
    const { id, bundle, pid } = this;
    const { execId } = processOf(payload);
    // Pids and Connect have no second field.
    if (method === 'Pids') return this.#ownPid();
    if (method === 'Connect') {
      return codecs.Connect.responseSerialize({ shimPid: process.pid, taskPid: pid, version: '' });
    }
    if (execId !== '') throw new ShimError('not-found', `task "${id}" has no process "${execId}"`);
    switch (method) {
      case 'State': {
        const { stdin, stdout, stderr, terminal } = this.#options.request;
        const status = taskStatus.stopped;
        const state = { id, bundle, pid, status, stdin, stdout, stderr, terminal, execId, ...exit };
        return codecs.State.responseSerialize(state);
      }
      case 'Delete':
        await this.#release(exit, false);
        return codecs.Delete.responseSerialize({ pid, ...exit });
      default:
        throw new ShimError('not-found', `task "${id}" has ended, and so has the shim that ran it`);
    }
  }

  #ownPid(): Uint8Array {
    return codecs.Pids.responseSerialize({ processes: [{ pid: this.#pid }] });
  }

  /** The container is deleted: lets go of its shim, which ends with the last one of the pod. */
  async #release(exit: ExitResponse, published: boolean): Promise<void> {
    if (this.#state === 'deleted') return;
    this.#state = 'deleted';
    this.#hasEnded(exit);
    const { group, deletionTold, onDeleted } = this.#options;
    if (published) await atMost(deletionTold, deletionEventTimeoutMs);
    group.delete(this);
    await group.run(() => this.#shutDown());
    await this.#files.forget();
    onDeleted(this, exit, published);
  }

  /** After a failure: ends what there is of the container, in the Linux shim's own way. */
  async #undo(): Promise<void> {
    const { shim, log } = this.#options;
    if (this.#address !== undefined) {
      await shim
        .delete()
        .catch((error: unknown) => log.warn({ err: error }, 'Linux container not cleaned up'));
    }
    await this.#ask('Delete', codecs.Delete, { id: this.id }).catch(() => {});
    await this.#shutDown();
    await this.#removeSocket();
    await this.#files.forget();
  }

  /** In the group's turn only: whoever comes next must not find a shim that is about to end. */
  async #shutDown(): Promise<void> {
    const client = this.#client;
    if (client === undefined || client.closed) return;
    const heard = await this.#ask('Shutdown', codecs.Shutdown, { id: this.id }).then(
      () => true,
      () => false,
    );
    if (heard && this.#options.group.empty) await atMost(this.#closed.promise, shutdownTimeoutMs);
    client.close();
  }

  /** A shim that died has left its socket; none is left by one that was told to end. */
  async #removeSocket(): Promise<void> {
    const path = this.#address?.path;
    if (path === undefined) return;
    const answers = await TtrpcClient.connect(path, { connectTimeoutMs: callTimeoutMs }).then(
      (client) => {
        client.close();
        return true;
      },
      () => false,
    );
    if (!answers) await rm(path, { force: true });
  }

  async #ask<Name extends MethodName>(
    name: Name,
    codec: MethodCodec<object, ResponseOf<Name>>,
    request: object,
  ): Promise<ResponseOf<Name>> {
    const { client, service } = this.#peer();
    return client.call(service, name, codec, request, { metadata: this.#metadata, timeoutMs: callTimeoutMs });
  }

  #peer(): { readonly client: TtrpcClient; readonly service: string } {
    if (this.#client === undefined || this.#address === undefined) throw this.#unknown();
    return { client: this.#client, service: this.#address.service };
  }

  #unknown(): TtrpcError {
    return new TtrpcError(StatusCode.NotFound, `task "${this.id}" is not known here`);
  }

  #relayOptions({ metadata, deadline, signal }: CallContext): CallOptions {
    return {
      metadata: new Map([...this.#metadata, ...metadata]),
      signal,
      ...(deadline === undefined ? {} : { timeoutMs: deadline - performance.now() }),
    };
  }
}

/**
 * Makes a process as likely to be ended for want of memory as this one. A shim makes itself a point more so than its parent, which
 * for others is containerd. Where the kernel does not let us, that point stays.
 */
async function scoreAsOwn(pid: number): Promise<void> {
  const own = await readFile('/proc/self/oom_score_adj', 'utf8');
  await writeFile(`/proc/${pid}/oom_score_adj`, own).catch(() => {});
}
