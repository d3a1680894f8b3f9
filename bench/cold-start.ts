import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { EngineClaim } from '../src/engine/engine-process.ts';
import type { PrepareJob } from '../src/engine/prepare.ts';
import type { PreparedApp } from '../src/engine/prepared-app.ts';
import { appFolder, type SampleApp } from '../test/support/apps.ts';
import type { Bench } from './bench.ts';
import { loadEngineFront } from './engine-front.ts';
import { rawHttp } from './raw-http.ts';
import type { PartResult } from './results.ts';
import { helloPath } from './servers.ts';
import { Rounds, timed } from './statistics.ts';

const run = promisify(execFile);

const roundCount = 9;
const preparationRounds = 3;
/** Through which engines boot, as the host does it. */
const launcher = join(import.meta.dirname, '..', 'dist', 'bin', 'containerd-shim-spin-v2');
const apps = ['hello', 'rust-http', 'js-api'] as const satisfies readonly SampleApp[];

/**
 * The phases from the start of an engine's process to the first answer, in their order. Those between `boot` and
 * `listen` are the claim; `hand over` is what is left of it: messages between processes and threads, and the outputs.
 */
export const startPhases = [
  'boot',
  'read',
  'compile',
  'thread',
  'network',
  'confine',
  'hand over',
  'settings',
  'services',
  'runtime',
  'trial',
  'listen',
  'first answer',
] as const;
type StartPhase = (typeof startPhases)[number];
export const phaseQuantity = (phase: StartPhase): string => `phase "${phase}"`;
export const fromWarm = 'from a warm engine to the first 200';
/** As `fromWarm`, on a node that has not yet learned the component's code. */
const fromWarmUnlearned = 'from a warm engine to the first 200, no code kept';
export const fromNothing = 'from no process to the first 200, app in the cache';
/** How fast the machine starts processes while the others are measured. */
export const emptyProcess = {
  quantity: 'from the start to the end of a process',
  subject: 'node -e 0',
} as const;

/** One start, milliseconds. */
type Start = {
  readonly fromWarm: number;
  readonly total: number;
  readonly phases: Partial<Record<StartPhase, number>>;
};

/** What a table calls an app whose engine had to be booted first. */
export const coldSubject = (app: string): string => `${app}, no engine waiting`;

/** Engines that are booted, claimed for an app in the cache, and asked once; and preparing apps for an empty cache. */
export async function measureColdStart(bench: Bench): Promise<PartResult> {
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-bench-start-'));
  const compileCache = process.env.NODE_COMPILE_CACHE;
  process.env.NODE_COMPILE_CACHE = join(folder, 'compile-cache');
  try {
    const { CheckedFiles, EngineProcess, learnCode, prepare } = await loadEngineFront(folder);
    const job = (app: SampleApp, store: string): PrepareJob => ({
      source: { kind: 'folder', manifest: join(appFolder(app), 'spin.toml'), mode: 'copy' },
      storeDir: join(folder, store),
      workDir: join(folder, `${store}-work`),
    });
    const rounds = new Rounds();
    // As a host has it, which knows what its engines have checked.
    const checked = new CheckedFiles();
    const prepared = new Map<SampleApp, PreparedApp>();
    const unlearned = new Map<SampleApp, PreparedApp>();
    for (const app of apps) {
      const learned = await prepare(job(app, 'store'), { checked });
      prepared.set(app, learned);
      unlearned.set(app, await prepare(job(app, 'store-without-code'), { checked }));
      for (const { id } of learned.components) {
        const start = performance.now();
        const bytes = await learnCode(learned, id, { launcher, warn: (line) => console.error(line) });
        rounds.add('learning its code, in the background', app, 'ms', performance.now() - start);
        rounds.add('code kept', app, 'bytes', bytes);
      }
    }
    await bench.rounds(preparationRounds, async (round) => {
      for (const app of apps) {
        const start = performance.now();
        await prepare(job(app, `empty-${app}-${round}`));
        rounds.add('first preparation, in a process of its own', app, 'ms', performance.now() - start);
      }
    });

    const once = async (app: SampleApp, preparedApp: PreparedApp, isWarm: boolean): Promise<Start> => {
      const begun = performance.now();
      const engine = await EngineProcess.spawn({ launcher });
      try {
        const booted = performance.now();
        if (isWarm) await engine.rehearse();
        const waiting = performance.now();
        const claim = { ...claimOf(preparedApp, folder), checked: checked.of(preparedApp) };
        const report = await engine.claim(claim);
        const claimed = performance.now();
        const { addresses } = await engine.start();
        const listening = performance.now();
        const port = Number(/:(\d+)$/.exec(addresses[0] ?? '')?.[1]);
        const { status } = await rawHttp({ port, path: helloPath(app) });
        const answered = performance.now();
        if (status !== 200) throw new Error(`the first answer of ${app} was ${status}`);
        checked.note(preparedApp, report.checked);
        const { worker: _, ...told } = report.milliseconds;
        const known: readonly string[] = startPhases;
        const strange = Object.keys(told).filter((phase) => !known.includes(phase));
        if (strange.length > 0)
          throw new Error(`the engine tells of "${strange.join('", "')}": add it to the phases`);
        const inner = Object.values(told).reduce((sum, value) => sum + value, 0);
        return {
          fromWarm: answered - waiting,
          total: booted - begun + answered - waiting,
          phases: {
            ...told,
            boot: booted - begun,
            'hand over': claimed - waiting - inner,
            listen: listening - claimed,
            'first answer': answered - listening,
          },
        };
      } finally {
        engine.signal('SIGKILL');
        await engine.exited;
      }
    };
    for (const [app, preparedApp] of prepared) await once(app, preparedApp, false);
    await bench.rounds(roundCount, async () => {
      const empty = await timed(() => run(process.execPath, ['-e', '0'], { env: {} }));
      rounds.add(emptyProcess.quantity, emptyProcess.subject, 'ms', empty);
      for (const [app, preparedApp] of prepared) {
        const warm = await once(app, preparedApp, true);
        rounds.add(fromWarm, app, 'ms', warm.fromWarm);
        for (const phase of startPhases)
          if (phase !== 'boot') rounds.add(phaseQuantity(phase), app, 'ms', warm.phases[phase] ?? 0);
        const without = unlearned.get(app);
        if (without !== undefined)
          rounds.add(fromWarmUnlearned, app, 'ms', (await once(app, without, true)).fromWarm);
        const cold = await once(app, preparedApp, false);
        rounds.add(fromNothing, coldSubject(app), 'ms', cold.total);
        for (const phase of startPhases)
          rounds.add(phaseQuantity(phase), coldSubject(app), 'ms', cold.phases[phase] ?? 0);
      }
    });
    return { measurements: rounds.summary(), failures: [] };
  } finally {
    if (compileCache === undefined) delete process.env.NODE_COMPILE_CACHE;
    else process.env.NODE_COMPILE_CACHE = compileCache;
    await rm(folder, { recursive: true, force: true });
  }
}

function claimOf(prepared: PreparedApp, folder: string): EngineClaim {
  return {
    id: 'bench',
    prepared,
    network: { kind: 'host' },
    // As a pod with one CPU has; a second one would boot beside the first request.
    environment: [['SPIN_WORKERS', '1']],
    args: [],
    stdout: { kind: 'null' },
    stderr: { kind: 'null' },
    stateDir: folder,
    listen: '127.0.0.1:0',
    announce: false,
    // As root without a capability: what a pod is that asks for nothing and may do nothing.
    security: { uid: 0, gid: 0, groups: [], capabilities: [], limits: [] },
  };
}
