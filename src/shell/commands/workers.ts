import { setTimeout as sleep } from 'node:timers/promises';
import type { TraceLine, WorkerStatus } from '../../engine/inspection.ts';
import type { WorkerFigures } from '../../engine/shell-messages.ts';
import { type Command, type CommandContext, CommandFailure, table, takeOptions } from '../command.ts';
import { summarizeProfile } from '../profile-summary.ts';
import { durationMs } from './basics.ts';

/** Longest profile, milliseconds: its samples are kept in the worker until it ends. */
const maxProfileMs = 60_000;

/** Pause between two screens of `top`, milliseconds. */
const topIntervalMs = 1_000;

const clearScreen = '\x1b[H\x1b[2J';

/** What the engine is doing: `ps`, `top`, `trace`, `heap`, `profile`. */
export const workerCommands: ReadonlyMap<string, Command> = new Map<string, Command>([
  [
    'ps',
    {
      usage: '',
      summary: 'workers, their instances and the requests they have now',
      run: async (context) => {
        await context.stdout.write(await overview(context.engine, undefined));
        return 0;
      },
    },
  ],
  [
    'top',
    {
      usage: '[-n TIMES]',
      summary: 'the same every second, with CPU; once if there is no terminal',
      run: async ({ args, engine, screen, signal, stdout, terminal }) => {
        const { options } = takeOptions(args, ['-b'], ['-n']);
        const times = Number(options.get('-n')?.at(-1) ?? (terminal ? Number.POSITIVE_INFINITY : 1));
        if (Number.isNaN(times)) throw CommandFailure.usage('"-n" needs a number');
        let before = await measure(engine);
        for (let time = 0; time < times; time++) {
          await sleep(topIntervalMs, undefined, { signal });
          const now = await measure(engine);
          const text = await overview(engine, { before, now });
          if (screen === undefined || options.has('-b')) await stdout.write(text);
          else {
            await screen.write(clearScreen);
            await stdout.write(text);
          }
          before = now;
        }
        return 0;
      },
    },
  ],
  [
    'trace',
    {
      usage: 'on [-n LINES]',
      summary: 'requests as they end, until Ctrl-C',
      run: async (context) => {
        const { rest, options } = takeOptions(context.args, [], ['-n']);
        const count = options.get('-n')?.at(-1);
        if (rest[0] === 'off') return 0;
        if (
          rest.length > 1 ||
          (rest[0] ?? 'on') !== 'on' ||
          (count !== undefined && !/^[0-9]{1,9}$/.test(count))
        ) {
          throw CommandFailure.usage('"trace on" shows requests until Ctrl-C, "trace on -n 10" that many');
        }
        await traceRequests(context, count === undefined ? Number.POSITIVE_INFINITY : Number(count));
        return 0;
      },
    },
  ],
  [
    'heap',
    {
      usage: '',
      summary: "memory of each worker: V8's heap, linear memories and buffers",
      run: async ({ engine, stdout }) => {
        const rows = (await engine.workers()).map(({ thread, heap }) =>
          heap === undefined
            ? [`${thread}`, 'does not answer: it computes without a pause']
            : [`${thread}`, ...[heap.used, heap.total, heap.limit, heap.external].map(bytesText)],
        );
        await stdout.write(table([['WORKER', 'USED', 'RESERVED', 'LIMIT', 'OUTSIDE'], ...rows]));
        return 0;
      },
    },
  ],
  [
    'profile',
    {
      usage: '[DURATION] [--json] [--worker ID]',
      summary: 'where the CPU time goes (5s); --json is a .cpuprofile',
      run: async ({ args, engine, stdout, stderr }) => {
        const { rest, options } = takeOptions(args, ['--json'], ['--worker']);
        const milliseconds = durationMs(rest[0] ?? '5s');
        if (milliseconds > maxProfileMs) {
          throw CommandFailure.usage(`a profile takes ${maxProfileMs / 1_000} s at most`);
        }
        const wanted = options.get('--worker')?.at(-1);
        const threads = (await engine.workers()).map(({ thread }) => thread);
        const chosen = threads.filter((thread) => wanted === undefined || String(thread) === wanted);
        const [first, ...others] = chosen;
        if (first === undefined)
          throw CommandFailure.usage(`worker "${wanted}" is none of ${threads.join(', ')}`);
        if (options.has('--json')) {
          if (others.length > 0) await stderr.write(`profile: worker ${first} of ${threads.join(', ')}\n`);
          await stdout.write(`${await engine.profile(first, milliseconds)}\n`);
          return 0;
        }
        const profiles = await Promise.all(
          chosen.map(async (thread) => ({ thread, json: await engine.profile(thread, milliseconds) })),
        );
        for (const { thread, json } of profiles) {
          if (profiles.length > 1) await stdout.write(`worker ${thread}:\n`);
          await stdout.write(summarizeProfile(json));
        }
        return 0;
      },
    },
  ],
]);

type Measurement = { readonly at: number; readonly workers: readonly WorkerFigures[] };

async function measure(engine: CommandContext['engine']): Promise<Measurement> {
  return { workers: await engine.workers(), at: performance.now() };
}

/** Workers, components and requests as tables; with two measurements also the CPU between them. */
async function overview(
  engine: CommandContext['engine'],
  span: { readonly before: Measurement; readonly now: Measurement } | undefined,
): Promise<string> {
  const workers = span?.now.workers ?? (await engine.workers());
  const statuses = await Promise.all(
    workers.map(async ({ thread }) => ({ thread, status: await engine.status(thread) })),
  );
  const rows = workers.map((worker) => {
    const status = statuses.find(({ thread }) => thread === worker.thread)?.status;
    return [
      `${worker.thread}`,
      status === undefined ? 'busy' : 'serving',
      cpuText(worker, span),
      worker.heap === undefined ? '?' : bytesText(worker.heap.used),
      worker.heap === undefined ? '?' : bytesText(worker.heap.external),
      status === undefined ? '?' : `${status.requests}`,
    ];
  });
  const cpu = span === undefined ? 'CPU TIME' : 'CPU';
  const parts = [table([['WORKER', 'STATE', cpu, 'HEAP', 'OUTSIDE', 'REQUESTS'], ...rows])];
  const components = statuses.flatMap(({ thread, status }) =>
    (status?.components ?? []).map(({ id, idleInstances }) => [`${thread}`, id, `${idleInstances}`]),
  );
  if (components.length > 0) parts.push(table([['WORKER', 'COMPONENT', 'IDLE INSTANCES'], ...components]));
  const requests = statuses.flatMap(({ thread, status }) =>
    (status?.oldest ?? []).map((request) => requestRow(thread, request)),
  );
  if (requests.length > 0) parts.push(table([['WORKER', 'AGE', 'REQUEST'], ...requests]));
  return parts.join('\n');
}

function requestRow(
  thread: number,
  { text, milliseconds }: WorkerStatus['oldest'][number],
): readonly string[] {
  return [`${thread}`, `${(milliseconds / 1_000).toFixed(1)} s`, text];
}

function cpuText(
  worker: WorkerFigures,
  span: { readonly before: Measurement; readonly now: Measurement } | undefined,
): string {
  if (span === undefined) return `${(worker.cpuMs / 1_000).toFixed(1)} s`;
  const before = span.before.workers.find(({ thread }) => thread === worker.thread);
  const share = (worker.cpuMs - (before?.cpuMs ?? 0)) / (span.now.at - span.before.at);
  return before === undefined ? '?' : `${Math.max(0, 100 * share).toFixed(0)} %`;
}

/** Shows requests of all workers as they end, `count` of them at most. */
async function traceRequests(
  { engine, signal, stdout, stderr }: CommandContext,
  count: number,
): Promise<void> {
  const enough = new AbortController();
  const until = AbortSignal.any([signal, enough.signal]);
  let left = count;
  const show = async (line: TraceLine): Promise<void> => {
    if (line.missed > 0) await stdout.write(`(${line.missed} requests not shown)\n`);
    await stdout.write(`${traceText(line)}\n`);
    left -= 1;
    if (left <= 0) enough.abort();
  };
  const threads = (await engine.workers()).map(({ thread }) => thread);
  let silent = threads.length;
  const onListening = (): void => {
    silent -= 1;
    if (silent === 0) void stderr.write('tracing requests; Ctrl-C ends it\n');
  };
  await Promise.all(threads.map((thread) => engine.trace(thread, until, show, onListening)));
  signal.throwIfAborted();
}

function traceText({ at, method, path, component, status, milliseconds }: TraceLine): string {
  const time = new Date(at).toISOString().slice(11, 23);
  return `${time} ${status ?? 'cut'} ${milliseconds.toFixed(1)} ms ${method} ${path} → ${component ?? 'host'}`;
}

function bytesText(bytes: number): string {
  return `${(bytes / (1024 * 1024)).toFixed(1)} MiB`;
}
