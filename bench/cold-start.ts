import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineClaim } from '../src/engine/engine-process.ts';
import type { PrepareJob } from '../src/engine/prepare.ts';
import type { PreparedApp } from '../src/engine/prepared-app.ts';
import { appFolder, type SampleApp } from '../test/support/apps.ts';
import type { Bench } from './bench.ts';
import { loadEngineFront } from './engine-front.ts';
import { rawHttp } from './raw-http.ts';
import type { PartResult } from './results.ts';
import { helloPath } from './servers.ts';
import { Rounds } from './statistics.ts';

const roundCount = 9;
const preparationRounds = 3;
const apps = ['hello', 'rust-http', 'js-api'] as const satisfies readonly SampleApp[];

/**
 * The phases from the start of an engine's process to the first answer, in their order. Those between `boot` and
 * `listen` are the claim; `hand over` is what is left of it: messages between processes and threads, and the outputs.
 */
export const startPhases = [
  'boot',
  'read',
  'compile',
  'network',
  'hand over',
  'settings',
  'services',
  'runtime',
  'trial',
  'listen',
  'first answer',
] as const;
export const phaseQuantity = (phase: (typeof startPhases)[number]): string => `phase "${phase}"`;

/** Engines that are booted, claimed for an app in the cache, and asked once; and preparing apps for an empty cache. */
export async function measureColdStart(bench: Bench): Promise<PartResult> {
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-bench-start-'));
  const compileCache = process.env.NODE_COMPILE_CACHE;
  process.env.NODE_COMPILE_CACHE = join(folder, 'compile-cache');
  try {
    const { EngineProcess, prepare } = await loadEngineFront(folder);
    const job = (app: SampleApp, store: string): PrepareJob => ({
      source: { kind: 'folder', manifest: join(appFolder(app), 'spin.toml'), mode: 'copy' },
      storeDir: join(folder, store),
      workDir: join(folder, `${store}-work`),
    });
    const rounds = new Rounds();
    const prepared = new Map<SampleApp, PreparedApp>();
    for (const app of apps) prepared.set(app, await prepare(job(app, 'store')));
    await bench.rounds(preparationRounds, async (round) => {
      for (const app of apps) {
        const start = performance.now();
        await prepare(job(app, `empty-${app}-${round}`));
        rounds.add('first preparation, in a process of its own', app, 'ms', performance.now() - start);
      }
    });

    const once = async (app: SampleApp, preparedApp: PreparedApp, record: boolean): Promise<void> => {
      const begun = performance.now();
      const engine = await EngineProcess.spawn();
      try {
        const bootMs = performance.now() - begun;
        // As the pool does it while an engine waits.
        await engine.rehearse();
        const booted = performance.now();
        const { milliseconds } = await engine.claim(claimOf(preparedApp, folder));
        const claimed = performance.now();
        const { addresses } = await engine.start();
        const listening = performance.now();
        const port = Number(/:(\d+)$/.exec(addresses[0] ?? '')?.[1]);
        const { status } = await rawHttp({ port, path: helloPath(app) });
        const answered = performance.now();
        if (status !== 200) throw new Error(`the first answer of ${app} was ${status}`);
        if (!record) return;
        const { worker: _, ...told } = milliseconds;
        const inner = Object.values(told).reduce((sum, value) => sum + value, 0);
        const phases: Record<(typeof startPhases)[number], number> = {
          boot: bootMs,
          read: 0,
          compile: 0,
          network: 0,
          settings: 0,
          services: 0,
          runtime: 0,
          trial: 0,
          ...told,
          'hand over': claimed - booted - inner,
          listen: listening - claimed,
          'first answer': answered - listening,
        };
        rounds.add('from a warm engine to the first 200', app, 'ms', answered - booted);
        rounds.add(
          'from no process to the first 200, app in the cache',
          app,
          'ms',
          bootMs + answered - booted,
        );
        for (const phase of startPhases) rounds.add(phaseQuantity(phase), app, 'ms', phases[phase]);
      } finally {
        engine.signal('SIGKILL');
        await engine.exited;
      }
    };
    for (const [app, preparedApp] of prepared) await once(app, preparedApp, false);
    await bench.rounds(roundCount, async () => {
      for (const [app, preparedApp] of prepared) await once(app, preparedApp, true);
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
    environment: [],
    args: [],
    stdout: { kind: 'null' },
    stderr: { kind: 'null' },
    stateDir: folder,
    listen: '127.0.0.1:0',
    announce: false,
  };
}
