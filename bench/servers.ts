import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { appFolder, type SampleApp } from '../test/support/apps.ts';
import { httpGet } from '../test/support/http-get.ts';
import { endProcess } from '../test/support/processes.ts';
import { waitFor } from '../test/support/wait.ts';
import type { BenchNode } from './bench-node.ts';
import { serverCore } from './load.ts';
import { childrenOf } from './process-usage.ts';

const run = promisify(execFile);
const floorScript = fileURLToPath(new URL('./http-floor.ts', import.meta.url));
const spinInterfaces = fileURLToPath(new URL('./jco-spin-interfaces.ts', import.meta.url));
const jcoScript = fileURLToPath(
  new URL('../node_modules/@bytecodealliance/jco/dist/jco.js', import.meta.url),
);

/** Time for `jco serve` to transpile and listen, milliseconds. */
const jcoStartMs = 60_000;
/** Time for one of its answers before it counts as broken, milliseconds. */
const jcoAnswerMs = 5_000;
/** Workers that `jco serve --isolate-requests worker` keeps ready; its default of 50 takes minutes to start. */
const jcoWorkers = 8;

/** A server on a loopback port, all its threads on one core. */
export type Server = {
  readonly name: string;
  readonly port: number;
  /** The path that says hello. */
  readonly path: string;
  readonly pid: number;
  /** Connections of a load, where it cannot do with as many as the others. */
  readonly connections?: number;
  /**
   * Holds the process up while others are measured, and lets it go on: `jco serve` goes on making workers for requests
   * that nobody waits for any more, on the core that all servers share.
   */
  hold?(held: boolean): void;
  stop(): Promise<void>;
};

/** Path of a sample app's cheapest answer. */
export const helloPath = (app: SampleApp): string =>
  app === 'hello' || app === 'bench-guest' ? '/' : '/hello/bench';

export const floorName = 'bare node:http';

/** `node:http` without a guest, the floor of everything here. */
export async function startFloor(): Promise<Server> {
  const port = await freePort();
  const command = [process.execPath, '--no-warnings', floorScript, String(port)];
  const child = spawn('taskset', ['-c', String(serverCore), ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await Promise.race([once(child.stdout, 'data'), endedEarly('bare node:http', child)]);
  return { name: floorName, port, path: '/', pid: child.pid ?? 0, stop: () => endProcess(child) };
}

/** A Spin app in a pod on the node's network: one worker, since it has one core, unless the environment says otherwise. */
export async function startPod(
  node: BenchNode,
  app: SampleApp,
  environment: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const port = await freePort();
  const pod = await node.podOnLoopback(app, `load-${app}-${port}`, port, {
    SPIN_WORKERS: '1',
    ...environment,
  });
  const pid = await pod.pid();
  await run('taskset', ['-a', '-c', '-p', String(serverCore), String(pid)]);
  return { name: app, port, path: helloPath(app), pid, stop: () => pod.remove() };
}

/** How `jco serve` keeps requests apart; `none` is what it does by default. */
export type JcoIsolation = 'none' | 'instance' | 'worker';

export const jcoName = (app: SampleApp, isolation: JcoIsolation): string =>
  `jco serve${isolation === 'none' ? '' : `, ${isolation} per request`}: ${app}`;

/**
 * `jco serve` with an app's component. Rejects when its first two answers are not both a 200: an instance that is used
 * again is broken for good, and a load on it would measure that.
 */
export async function startJco(app: SampleApp, isolation: JcoIsolation): Promise<Server> {
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-bench-jco-'));
  const flags = [
    '--port',
    String(port),
    '--host',
    '127.0.0.1',
    '--jco-dir',
    folder,
    '--jco-import',
    spinInterfaces,
  ];
  if (isolation === 'none') {
    for (const name of ['key-value', 'variables'])
      flags.push('--jco-map', `fermyon:spin/${name}=${spinInterfaces}`);
  } else flags.push('--isolate-requests', isolation);
  if (isolation === 'worker') flags.push('--isolate-worker-pool-size', String(jcoWorkers));
  const component = join(appFolder(app), `${app}.wasm`);
  const command = [process.execPath, '--no-warnings', jcoScript, 'serve', component, ...flags];
  const child = spawn('taskset', ['-c', String(serverCore), ...command], {
    stdio: ['ignore', 'ignore', 'pipe'],
    // The process that serves is a child of it, found by this name.
    env: {
      ...process.env,
      JCO_RUN_PATH: process.execPath,
      PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
    },
  });
  const name = jcoName(app, isolation);
  let errors = '';
  child.stderr.on('data', (bytes: Buffer) => {
    errors = (errors + bytes.toString('utf8')).slice(-4096);
  });
  const stop = async (): Promise<void> => {
    for (const pid of childrenOf(child.pid ?? 0)) process.kill(pid, 'SIGKILL');
    await endProcess(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await Promise.race([
      waitFor(`${name} to listen`, () => errors.includes('Server listening'), { timeoutMs: jcoStartMs }),
      endedEarly(name, child),
    ]);
    for (const which of ['first', 'second']) {
      const url = `http://127.0.0.1:${port}${helloPath(app)}`;
      const answer = await httpGet(url, { timeoutMs: jcoAnswerMs }).then(
        ({ status }) => `status ${status}`,
        (error: Error) => error.message,
      );
      if (answer !== 'status 200')
        throw new Error(`breaks at the ${which} request: ${answer}${reasonIn(errors)}`);
    }
    const pid = childrenOf(child.pid ?? 0)[0] ?? 0;
    // One that has ended by itself fails under load, which is told.
    const hold = (held: boolean): void => {
      if (existsSync(`/proc/${pid}`)) process.kill(pid, held ? 'SIGSTOP' : 'SIGCONT');
    };
    hold(true);
    const server = { name, port, path: helloPath(app), pid, hold, stop };
    // With more than it has workers, none of the requests is answered within a round.
    return isolation === 'worker' ? { ...server, connections: jcoWorkers } : server;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The line of a server's errors that tells the cause. */
function reasonIn(errors: string): string {
  const line = errors.split('\n').find((text) => /Error: /.test(text));
  return line === undefined ? '' : `; it says: ${line.replace(/^.*?(\w*Error: )/, '$1').trim()}`;
}

async function endedEarly(name: string, child: ChildProcess): Promise<never> {
  const [code] = await once(child, 'exit');
  throw new Error(`${name} ended with ${code} before it served`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('the kernel gave no port');
  return address.port;
}
