import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const generatorScript = fileURLToPath(new URL('./load-generator.ts', import.meta.url));

/** The server's core; the load has the next one, or the same on a machine with one core. */
export const serverCore = 0;
const loadCore = availableParallelism() > 1 ? 1 : 0;

/** Connections of a load, each with one request at a time. */
export const connections = 32;

/** What came of one round of load. */
export type Load = {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
};

export type LoadTool = 'wrk' | 'load-generator.ts';

/** What makes the requests: wrk, or our own generator where it is not installed. */
export async function loadTool(): Promise<LoadTool> {
  return run('wrk', ['-v']).then(
    () => 'wrk',
    (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? 'load-generator.ts' : 'wrk'),
  );
}

export type LoadInput = {
  readonly port: number;
  readonly path: string;
  readonly seconds: number;
  readonly connections?: number;
};

/** Keeps connections to a loopback port busy, from a core of its own. Throws when an answer was not a success. */
export async function load(tool: LoadTool, input: LoadInput): Promise<Load> {
  const pinned = ['-c', String(loadCore)];
  const count = String(input.connections ?? connections);
  if (tool === 'load-generator.ts') {
    const args = [String(input.port), input.path, count, String(input.seconds * 1000)];
    const command = [process.execPath, '--no-warnings', generatorScript, ...args];
    const { stdout } = await run('taskset', [...pinned, ...command]);
    const { seconds, ...result } = JSON.parse(stdout) as Omit<Load, 'perSecond'> & { seconds: number };
    return { ...result, perSecond: result.requests / seconds };
  }
  const url = `http://127.0.0.1:${input.port}${input.path}`;
  const flags = ['-t', '1', '-c', count, '-d', `${input.seconds}s`, '--latency', '--timeout', '60s'];
  const { stdout } = await run('taskset', [...pinned, 'wrk', ...flags, url]);
  return parseWrk(stdout);
}

/** Reads wrk's text. Throws when an answer was not a success, or when there was none. */
export function parseWrk(text: string): Load {
  const perSecond = /Requests\/sec:\s+([\d.]+)/.exec(text)?.[1];
  const requests = /^\s*(\d+) requests in /m.exec(text)?.[1];
  if (perSecond === undefined || requests === undefined) throw new Error(`wrk says:\n${text}`);
  if (requests === '0') throw new Error('not one request was answered');
  const wrong = /Non-2xx.*|Socket errors.*/.exec(text)?.[0];
  if (wrong !== undefined) throw new Error(`wrk says: ${wrong.trim()}`);
  const percentile = (name: string): number => {
    const [, value, unit] = new RegExp(`^\\s*${name}%\\s+([\\d.]+)(us|ms|s)\\s*$`, 'm').exec(text) ?? [];
    return Number(value) * (unit === 'us' ? 0.001 : unit === 's' ? 1000 : 1);
  };
  return {
    requests: Number(requests),
    perSecond: Number(perSecond),
    p50Ms: percentile('50'),
    p99Ms: percentile('99'),
  };
}
