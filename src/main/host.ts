import { closeSync, existsSync, mkdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { imageOfContainer } from '../containerd/containers.ts';
import { ContainerdBlobs } from '../containerd/content-store.ts';
import { EventPublisher, eventsServiceName } from '../containerd/events.ts';
import { GrpcConnection } from '../containerd/grpc.ts';
import { HostIdle } from '../containerd/host-idle.ts';
import { LinuxEvents } from '../containerd/linux-events.ts';
import { relayLinuxTasks } from '../containerd/linux-relay.ts';
import { LinuxTasks } from '../containerd/linux-tasks.ts';
import { bindTaskService, taskServiceNames } from '../containerd/messages.ts';
import { readNodeConfig } from '../containerd/node-config.ts';
import { SpinImages } from '../containerd/spin-image.ts';
import { TaskService } from '../containerd/task-service.ts';
import { TaskTable } from '../containerd/task-table.ts';
import { findInstallation } from '../engine/installation.ts';
import { ShimError } from '../error.ts';
import { LogHub } from '../telemetry/log.ts';
import { LogFifo } from '../telemetry/log-fifo.ts';
import { LogFile } from '../telemetry/log-file.ts';
import { LogJournal } from '../telemetry/log-journal.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import { TtrpcError } from '../ttrpc/status.ts';
import { AppMemo } from '../workload/app-memo.ts';
import { CodeLearningQueue } from '../workload/code-learning-queue.ts';
import { EnginePool } from '../workload/engine-pool.ts';
import type { ImageOf } from '../workload/image-of.ts';
import type { ContainerdSite } from '../workload/linux-shim.ts';
import { WorkloadFactory } from '../workload/workload-factory.ts';

/**
 * The host process: `host -address A -namespace NS -ttrpc-address T -publish-binary P [-debug]`, booted by the
 * launcher with a listening socket as a descriptor. It says `ok`, or `error: why`, on another one, and then serves the
 * task service until it is idle.
 */

/** Descriptors and paths the launcher hands over in the environment. */
type Handover = {
  readonly listenFd: number;
  readonly readyFd: number;
  /** The path launchers will find the socket at, once we have said that we are ready. */
  readonly socket: string | undefined;
};

function readHandover(): Handover {
  const { SPINSHIM_LISTEN_FD, SPINSHIM_READY_FD, SPINSHIM_SOCKET } = process.env;
  // For this process alone, as is what the launcher sets for its memory: children get none of it.
  for (const name of ['SPINSHIM_LISTEN_FD', 'SPINSHIM_READY_FD', 'SPINSHIM_SOCKET', 'MALLOC_ARENA_MAX'])
    delete process.env[name];
  return {
    listenFd: Number(SPINSHIM_LISTEN_FD ?? 3),
    readyFd: Number(SPINSHIM_READY_FD ?? 4),
    socket: SPINSHIM_SOCKET,
  };
}

function readArguments(): ContainerdSite {
  // containerd's flags have one dash, Node's parser knows two.
  const args = process.argv.slice(2).map((arg) => (/^-[a-z]/.test(arg) ? `-${arg}` : arg));
  const { values } = parseArgs({
    args,
    options: {
      address: { type: 'string' },
      namespace: { type: 'string' },
      'ttrpc-address': { type: 'string' },
      'publish-binary': { type: 'string' },
      debug: { type: 'boolean', default: false },
    },
  });
  const { address, namespace, debug } = values;
  if (address === undefined || namespace === undefined) {
    throw new ShimError(
      'invalid-argument',
      'the host needs -address and -namespace; the launcher gives both',
    );
  }
  return {
    address,
    namespace,
    ttrpcAddress: values['ttrpc-address'] ?? `${address}.ttrpc`,
    publishBinary: values['publish-binary'] ?? '',
    debug,
  };
}

/** The launcher, which is also the program of every sandbox: beside a bundle's `lib/spinshim`, or in a checkout's `dist`. */
function findLauncher(): string {
  const name = 'containerd-shim-spin-v2';
  const given = process.env.SPINSHIM_LAUNCHER;
  const candidates = [
    join(import.meta.dirname, '../../bin', name),
    join(import.meta.dirname, '../../dist/bin', name),
  ];
  const found = given ?? candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new ShimError(
      'not-found',
      `no launcher at "${candidates.join('", "')}": install it or set SPINSHIM_LAUNCHER`,
    );
  }
  return found;
}

/** The status and the words that a failed call is answered with. */
function toStatus(thrown: unknown): { readonly code: number; readonly message: string } {
  if (thrown instanceof TtrpcError) return { code: thrown.code, message: thrown.message };
  const error = ShimError.from(thrown);
  return { code: error.meaning.status, message: error.message };
}

async function main({ listenFd, readyFd, socket }: Handover): Promise<void> {
  const site = readArguments();
  const { address, namespace, ttrpcAddress, debug } = site;
  const runDir = socket === undefined ? '/run/spinshim' : dirname(socket);
  const name = socket === undefined ? `host-${process.pid}` : basename(socket);
  const config = readNodeConfig(process.env);
  const storeDir = config.stateDir;
  mkdirSync(storeDir, { recursive: true, mode: 0o700 });
  // Preparers inherit it: their second start takes half the time of the first.
  process.env.NODE_COMPILE_CACHE ??= join(storeDir, 'compile-cache');

  const file = new LogFile(join(runDir, `${name}.log`));
  const journal = new LogJournal('containerd-shim-spin-v2');
  const hub = new LogHub(config.logLevel ?? (debug ? 'debug' : 'info'), {
    write: (line) => {
      file.write(line);
      journal.write(line);
    },
  });
  const log = hub.logger;
  process.on('uncaughtException', (error) =>
    log.error({ err: error, stack: error.stack }, 'uncaught exception'),
  );
  process.on('unhandledRejection', (reason) => {
    log.error({ err: reason, stack: ShimError.from(reason).stack }, 'unhandled rejection');
  });

  const idleMs = 1000 * config.hostIdleSeconds;
  const launcher = findLauncher();
  const grpc = new GrpcConnection(address, namespace);
  const events = new EventPublisher({ address: ttrpcAddress, namespace, log });
  const imageOf: ImageOf = (id) => imageOfContainer(grpc, id);
  const spinImages = new SpinImages(new ContainerdBlobs(address, namespace), imageOf);
  const linuxEvents = new LinuxEvents((envelope) => events.forward(envelope));
  const pool = new EnginePool(config.warmEngines, log, launcher);
  const learning = config.learnCode ? new CodeLearningQueue(log, launcher) : undefined;
  const pidFile = join(runDir, `${name}.pid`);

  const end = async (): Promise<void> => {
    log.info('host ends');
    rmSync(pidFile, { force: true });
    await Promise.race([events.flushed(), new Promise((resolve) => setTimeout(resolve, 2_000))]);
    await Promise.all([pool.close(), learning?.close()]);
    process.exit(0);
  };
  const table = new TaskTable(() => idle.touch());
  const idle = new HostIdle({ idleMs, socket, hasTasks: () => table.size > 0, end: () => void end() });
  const taskFifos = new Map<string, LogFifo>();
  const service = new TaskService({
    namespace,
    table,
    factory: new WorkloadFactory(
      {
        address,
        namespace,
        storeDir,
        maxCacheBytes: config.maxCacheBytes,
        pool,
        memo: new AppMemo(storeDir, findInstallation().version, (line) => log.warn(line)),
        learning,
        imageOf,
        isSpinImage: (id) => spinImages.isSpin(id),
        log,
      },
      launcher,
    ),
    linux: new LinuxTasks({ ...site, ttrpcAddress: socket ?? ttrpcAddress }, linuxEvents),
    log,
    publish: (topic, event) => events.publish(topic, event),
    taskLog: {
      open: (id, path) => {
        const fifo = taskFifos.has(id) ? undefined : LogFifo.open(path);
        if (fifo === undefined) return;
        taskFifos.set(id, fifo);
        hub.addTask(id, fifo);
      },
      close: (id) => {
        hub.removeTask(id);
        taskFifos.get(id)?.close();
        taskFifos.delete(id);
      },
    },
  });

  const server = new TtrpcServer({
    toStatus,
    admit: () => {
      idle.touch();
      return true;
    },
    onError: (error, where) => log.warn({ err: error, where }, 'ttrpc'),
  });
  const methods = relayLinuxTasks(bindTaskService(service), (id) => table.findLinux(id));
  for (const serviceName of taskServiceNames) server.register(serviceName, methods);
  server.register(eventsServiceName, linuxEvents.methods);
  await server.listenFd(listenFd);

  const onSignal = (signal: NodeJS.Signals): void => {
    if (table.size > 0) log.warn({ signal, tasks: table.size }, 'signal ignored: tasks are left');
    else void idle.endIfUnused();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', () => {});

  writeFileSync(pidFile, String(process.pid), { mode: 0o600 });
  log.info({ pid: process.pid, address, namespace, version: findInstallation().version }, 'host serves');
  writeSync(readyFd, 'ok\n');
  closeSync(readyFd);
}

const handover = readHandover();
try {
  await main(handover);
} catch (error) {
  const line = ShimError.from(error).message.replaceAll(/[\n\r]+/g, ' ');
  try {
    writeSync(handover.readyFd, `error: ${line}\n`);
  } catch {
    process.stderr.write(`error: ${line}\n`);
  }
  process.exit(1);
}
