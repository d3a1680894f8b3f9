import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Bench } from './bench.ts';
import { serverCore } from './load.ts';
import { rawHttp, textOf } from './raw-http.ts';
import type { PartResult } from './results.ts';
import { startFloor, startPod } from './servers.ts';
import { Rounds } from './statistics.ts';

const run = promisify(execFile);
const roundCount = 7;

/** Each kernel with a size that takes native code some 50 to 150 ms. */
const sizes = [
  ['fib', 35],
  ['sieve', 10_000_000],
  ['mandelbrot', 700],
  ['matmul', 500],
] as const;
/** What the JavaScript engine inside of a guest computes, which has no compiler: the Fibonacci number of this size. */
const interpretedSize = 25;

/** Work on the CPU: in a guest, in plain JavaScript, and native; one request each, all on one core. */
export async function measureKernels(bench: Bench): Promise<PartResult> {
  const node = await bench.node();
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-bench-kernels-'));
  const floor = await startFloor();
  const servers = [floor];
  try {
    const native = join(folder, 'kernels');
    const source = join(import.meta.dirname, 'kernels', 'kernels.c');
    await run(process.env.CC ?? 'cc', ['-O2', '-o', native, source]);
    const guest = await startPod(node, 'bench-guest');
    servers.push(guest);
    const script = await startPod(node, 'js-api');
    servers.push(script);
    const rounds = new Rounds();
    const ask = async (port: number, path: string): Promise<{ result: string; ms: number }> => {
      const start = performance.now();
      const answer = await rawHttp({ port, path });
      return { result: textOf(answer), ms: performance.now() - start };
    };
    const once = async (record: boolean): Promise<void> => {
      for (const [name, size] of sizes) {
        const { stdout } = await run('taskset', ['-c', String(serverCore), native, name, String(size)]);
        const [result = '', ms = ''] = stdout.trim().split(' ');
        const answers = [
          { subject: 'C, native (cc -O2)', result, ms: Number(ms) },
          { subject: 'JavaScript in node', ...(await ask(floor.port, `/${name}/${size}`)) },
          { subject: 'AssemblyScript guest', ...(await ask(guest.port, `/${name}/${size}`)) },
        ];
        for (const answer of answers) {
          if (answer.result !== result) {
            throw new Error(`${name}(${size}) is "${answer.result}" in ${answer.subject}, "${result}" in C`);
          }
          if (record) rounds.add(`${name}(${size})`, answer.subject, 'ms', answer.ms);
        }
      }
      const quantity = `fib(${interpretedSize})`;
      const inNode = await ask(floor.port, `/fib/${interpretedSize}`);
      const inGuest = await ask(script.port, `/spin/${interpretedSize}`);
      if (inNode.result !== inGuest.result) throw new Error(`${quantity} is "${inGuest.result}" in js-api`);
      if (!record) return;
      rounds.add(quantity, 'JavaScript in node', 'ms', inNode.ms);
      rounds.add(quantity, 'JavaScript guest (js-api)', 'ms', inGuest.ms);
    };
    for (let warmUp = 0; warmUp < 2; warmUp++) await once(false);
    await bench.rounds(roundCount, () => once(true));
    return { measurements: rounds.summary(), failures: [] };
  } finally {
    for (const server of servers) await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
