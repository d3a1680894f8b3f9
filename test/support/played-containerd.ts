import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Server, ServerCredentials, type ServiceDefinition, type sendUnaryData } from '@grpc/grpc-js';
import { type EventEnvelope, eventsServiceName, forwardCodec } from '../../src/containerd/events.ts';
import { type TaskHandlers, taskProto, taskServiceNames } from '../../src/containerd/messages.ts';
import { ProtoFile } from '../../src/containerd/proto-file.ts';
import { TtrpcClient } from '../../src/ttrpc/client.ts';
import { TtrpcServer } from '../../src/ttrpc/server.ts';
import { method } from '../../src/ttrpc/service.ts';
import { appFolder, type SampleApp } from './apps.ts';
import { removeCgroup } from './cgroups.ts';
import { unmountUnder } from './mounts.ts';
import { shimUnderTest } from './shim.ts';
import { staticProgram } from './static-program.ts';
import { waitFor } from './wait.ts';

const run = promisify(execFile);

/** What can run behind the shim's address. */
export type TaskKind = 'sandbox' | 'Spin' | 'Linux';
export const taskKinds: readonly TaskKind[] = ['sandbox', 'Spin', 'Linux'];

/** What a specification has besides. */
export type SpecChanges = {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly mounts?: readonly object[];
  readonly linux?: object;
};

/** A task's event as the shim told of it: its topic, and the exec it is about. */
export type ToldEvent = { readonly topic: string; readonly containerId: string; readonly execId: string };

type Answer<Name extends keyof TaskHandlers> = Awaited<ReturnType<TaskHandlers[Name]>>;

/**
 * containerd's side of the shim's contract played by this process, with the real launcher, host, engines and Linux shim on
 * the other: so every call can be made in every state, also those that a containerd would not pass on.
 */
export class PlayedContainerd {
  readonly #folder: string;
  readonly #shim = shimUnderTest();
  readonly #grpc = new Server();
  readonly #events = new TtrpcServer();
  readonly #told: ToldEvent[] = [];
  #client: TtrpcClient | undefined;
  #count = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async start(): Promise<PlayedContainerd> {
    const folder = await mkdtemp('/tmp/spinshim-played-');
    const played = new PlayedContainerd(folder);
    const definition = new ProtoFile('containers.proto').service(
      'containerd.services.containers.v1.Containers',
    );
    played.#grpc.addService(definition as unknown as ServiceDefinition, {
      // Nothing here has an image: apps and programs are in their root file systems.
      Get: (call: { request: { id: string } }, answer: sendUnaryData<unknown>) =>
        answer(null, { container: { id: call.request.id, image: '', labels: {} } }),
    });
    await new Promise<void>((resolve, reject) => {
      played.#grpc.bindAsync(`unix:${played.#address}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    const forward = method(forwardCodec, async ({ envelope }) => {
      if (envelope !== null) played.#told.push(readEvent(envelope));
      return {};
    });
    played.#events.register(eventsServiceName, new Map([['Forward', forward]]));
    await played.#events.listen(`${played.#address}.ttrpc`);
    return played;
  }

  get #address(): string {
    return join(this.#folder, 'c.sock');
  }

  get #cgroup(): string {
    return `/${this.#folder.slice('/tmp/'.length)}`;
  }

  /** What was told of a task, in the order it came. */
  toldOf(id: string): readonly ToldEvent[] {
    return this.#told.filter(({ containerId }) => containerId === id);
  }

  /** Waits until a task's deletion, its last event, was told of; gives the topics of all its events without their folder. */
  async topicsAtEnd(id: string): Promise<readonly string[]> {
    const topics = (): string[] =>
      this.toldOf(id).map(({ topic, execId }) => topic.replace('/tasks/', '') + (execId && ` ${execId}`));
    return waitFor('the deletion to be told of', () => topics().includes('delete') && topics(), {
      explain: () => topics().join(', '),
    });
  }

  /**
   * Writes a bundle and boots the shim for it as containerd does; the task is not created yet. Gives its id. `changes` are fields
   * of its specification, `app` is what a Spin container runs.
   */
  async prepare(
    kind: TaskKind,
    { app = 'hello', changes = {} }: { readonly app?: SampleApp; readonly changes?: SpecChanges } = {},
  ): Promise<string> {
    const id = `${kind.toLowerCase()}-${this.#count++}`;
    const bundle = this.bundle(id);
    await mkdir(join(bundle, 'rootfs'), { recursive: true });
    if (kind === 'Spin') {
      await cp(appFolder(app), join(bundle, 'rootfs'), { recursive: true });
    } else if (kind === 'Linux') {
      await mkdir(join(bundle, 'rootfs', 'bin'));
      await mkdir(join(bundle, 'rootfs', 'proc'));
      const program = await staticProgram('sidecar');
      await writeFile(join(bundle, 'rootfs', 'bin', 'sidecar'), program, { mode: 0o755 });
    }
    await writeFile(join(bundle, 'config.json'), JSON.stringify(this.#spec(kind, id, changes)));
    // Where a shim has its log read by containerd; the Linux shim does not start without it.
    await run('mkfifo', [join(bundle, 'log')]);
    const { env, shimDir = '' } = this.#shim.containerd;
    const starting = run(
      join(shimDir, 'containerd-shim-spin-v2'),
      [
        ...['-namespace', this.#namespace, '-address', this.#address, '-publish-binary', '/bin/false'],
        ...['-id', id, 'start'],
      ],
      { cwd: bundle, env: { ...process.env, ...env, ...this.#variables } },
    );
    starting.child.stdin?.end();
    const { stdout } = await starting;
    this.#client ??= await TtrpcClient.connect(stdout.trim().replace('unix://', ''));
    return id;
  }

  bundle(id: string): string {
    return join(this.#folder, 'bundles', id);
  }

  /** One call of the task service; `Create` is given the task's bundle. */
  call<Name extends keyof TaskHandlers>(name: Name, id: string, fields: object = {}): Promise<Answer<Name>> {
    if (this.#client === undefined) throw new Error('no shim was booted yet');
    const codec = taskProto.method<object, Answer<Name>>(taskServiceNames[0], name);
    const request = { id, ...(name === 'Create' ? { bundle: this.bundle(id) } : {}), ...fields };
    return this.#client.call(taskServiceNames[0], name, codec, request);
  }

  /** The process of an exec that goes on until it is ended. */
  lastingProcess(kind: TaskKind): { readonly type_url: string; readonly value: Uint8Array } {
    const args = kind === 'Linux' ? ['/bin/sidecar', 'wait'] : ['sleep', '1000'];
    const process = { args, cwd: '/', env: [], user: { uid: 0, gid: 0 } };
    return {
      type_url: 'types.containerd.io/opencontainers/runtime-spec/1/Process',
      value: Buffer.from(JSON.stringify(process)),
    };
  }

  /** Ends the shim, and takes away what a test has left. */
  async stop(): Promise<void> {
    this.#client?.close();
    const { stdout } = await run('sh', ['-c', `cat ${this.#folder}/run/*.pid 2>/dev/null || true`]);
    const pid = Number(stdout);
    if (pid > 0) {
      process.kill(pid, 'SIGTERM');
      await waitFor('the host to end', () => !isAlive(pid));
    }
    await this.#events.close();
    this.#grpc.forceShutdown();
    await unmountUnder(this.#folder);
    await removeCgroup(this.#cgroup);
    for (const folder of [this.#folder, join('/run/containerd/runc', this.#namespace)])
      await rm(folder, { recursive: true, force: true });
  }

  /** Its own: runc keeps its containers by it, in a place that all share. */
  get #namespace(): string {
    return this.#folder.slice('/tmp/spinshim-'.length);
  }

  get #variables(): Record<string, string> {
    return {
      SPINSHIM_RUN_DIR: join(this.#folder, 'run'),
      SPINSHIM_STATE_DIR: join(this.#folder, 'state'),
      SPINSHIM_LEARN_CODE: 'false',
    };
  }

  #spec(kind: TaskKind, id: string, changes: SpecChanges): object {
    const namespaces = ['pid', 'ipc', 'uts', 'network', ...(kind === 'Linux' ? ['mount'] : [])];
    const args = kind === 'Linux' ? ['/bin/sidecar', 'wait'] : ['/spin.toml'];
    return {
      ociVersion: '1.0.2',
      hostname: 'played',
      root: { path: 'rootfs' },
      annotations: {
        ...(kind === 'sandbox' ? { 'io.kubernetes.cri.container-type': 'sandbox' } : {}),
        ...changes.annotations,
      },
      process: { args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } },
      mounts: [
        ...(kind === 'Linux' ? [{ destination: '/proc', type: 'proc', source: 'proc' }] : []),
        ...(changes.mounts ?? []),
      ],
      linux: {
        cgroupsPath: `${this.#cgroup}/${id}`,
        namespaces: namespaces.map((type) => ({ type })),
        resources: {},
        ...changes.linux,
      },
    };
  }
}

const eventsProto = new ProtoFile('events.proto');

function readEvent({ topic, event }: EventEnvelope): ToldEvent {
  const codec = eventsProto.message<{ containerId: string; id?: string; execId?: string }>(
    event?.type_url ?? '',
  );
  const { containerId, id = '', execId = '' } = codec.deserialize(Buffer.from(event?.value ?? []));
  return { topic, containerId, execId: id === containerId ? execId : id || execId };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
