import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { endProcess } from '../test/support/processes.ts';
import type { BenchNode } from './bench-node.ts';
import { type Measurement, Rounds } from './statistics.ts';

const run = promisify(execFile);
const floorScript = fileURLToPath(new URL('./http-floor.ts', import.meta.url));
const generatorScript = fileURLToPath(new URL('./load-generator.ts', import.meta.url));

const roundCount = 3;
/** Length of one round of load in seconds, and of the warm-up of each server. */
const loadSeconds = 3;
const warmUpSeconds = 2;
/** Connections, each with one request at a time. */
const connections = 32;
/** The server's core; the load has the next one, or the same on a machine with one core. */
const serverCore = 0;
const loadCore = availableParallelism() > 1 ? 1 : 0;

type Load = { readonly perSecond: number; readonly p99Ms: number };
type Server = { readonly name: string; readonly port: number; readonly path: string };

/** What makes the requests: wrk, or our own generator where it is not installed. */
export async function loadTool(): Promise<'wrk' | 'load-generator.ts'> {
  return run('wrk', ['-v']).then(
    () => 'wrk',
    (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? 'load-generator.ts' : 'wrk'),
  );
}

/** Requests per second and p99 of apps and of bare node:http, on loopback, in turn, each server on one and the same core. */
export async function measureThroughput(node: BenchNode): Promise<Measurement[]> {
  const tool = await loadTool();
  const servers: Server[] = [];
  let floor: ChildProcess | undefined;
  try {
    const port = await freePort();
    floor = spawn('taskset', ['-c', String(serverCore), ...withNode(floorScript), String(port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (floor.stdout !== null) await once(floor.stdout, 'data');
    servers.push({ name: 'bare node:http', port, path: '/' });
    for (const app of node.apps) {
      const appPort = await freePort();
      const pod = await node.podOnLoopback(app, `load-${app}`, appPort);
      await run('taskset', ['-a', '-c', '-p', String(serverCore), String(await pod.pid())]);
      servers.push({ name: app, port: appPort, path: app === 'hello' ? '/' : '/hello/bench' });
    }
    const perSecond = new Rounds('requests/s');
    const p99 = new Rounds('ms');
    for (const server of servers) await load(tool, server, warmUpSeconds);
    for (let round = 0; round < roundCount; round++) {
      for (const server of servers) {
        node.throwIfEnded();
        const result = await load(tool, server, loadSeconds);
        perSecond.add(`requests per second, one core: ${server.name}`, result.perSecond);
        p99.add(`p99 at that load: ${server.name}`, result.p99Ms);
      }
    }
    return [...perSecond.summary(), ...p99.summary()];
  } finally {
    if (floor !== undefined) await endProcess(floor);
    await node.spin.removePods();
  }
}

async function load(tool: 'wrk' | 'load-generator.ts', server: Server, seconds: number): Promise<Load> {
  const pinned = ['-c', String(loadCore)];
  if (tool === 'load-generator.ts') {
    const args = [String(server.port), server.path, String(connections), String(seconds * 1000)];
    const { stdout } = await run('taskset', [...pinned, ...withNode(generatorScript), ...args]);
    const { requests, seconds: taken, p99Ms } = JSON.parse(stdout) as Record<string, number>;
    return { perSecond: (requests ?? 0) / (taken ?? 1), p99Ms: p99Ms ?? 0 };
  }
  const url = `http://127.0.0.1:${server.port}${server.path}`;
  const flags = ['-t', '1', '-c', String(connections), '-d', `${seconds}s`, '--latency', '--timeout', '60s'];
  const { stdout } = await run('taskset', [...pinned, 'wrk', ...flags, url]);
  return parseWrk(stdout);
}

/** Reads wrk's text. Throws when an answer was not a success. */
function parseWrk(text: string): Load {
  const perSecond = /Requests\/sec:\s+([\d.]+)/.exec(text)?.[1];
  const p99 = /99%\s+([\d.]+)(us|ms|s)/.exec(text);
  if (perSecond === undefined || p99 === null || /Non-2xx|Socket errors/.test(text)) {
    throw new Error(`wrk says:\n${text}`);
  }
  const scale = { us: 0.001, ms: 1, s: 1000 }[p99[2] as 'us' | 'ms' | 's'];
  return { perSecond: Number(perSecond), p99Ms: Number(p99[1]) * scale };
}

function withNode(script: string): string[] {
  return [process.execPath, '--no-warnings', script];
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
