import { mkdir } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { RuntimeConfig } from '../app/runtime-config-types.ts';
import type { HttpTrigger } from '../app/types.ts';
import { CheckedFiles } from '../engine/checked-files.ts';
import { EngineProcess } from '../engine/engine-process.ts';
import type { EngineClaim, EngineOutput } from '../engine/messages.ts';
import { type PrepareJob, prepare } from '../engine/prepare.ts';
import type { PreparedApp } from '../engine/prepared-app.ts';
import { routeLines } from '../triggers/http/route-lines.ts';
import { Router } from '../triggers/http/router.ts';
import type { CommandContext } from './command.ts';
import { type StateFolder, storeSummary } from './store-summary.ts';

type Pair = readonly [name: string, value: string];

/** One run of an app, everything decided. */
export type AppRun = {
  readonly job: PrepareJob;
  /** `host:port`, the host a literal. */
  readonly listen: string;
  /** Added to the environment of every component. */
  readonly environment: readonly Pair[];
  /** Application variables that win over every provider. */
  readonly variables: readonly Pair[];
  readonly config: RuntimeConfig | undefined;
  readonly configPath?: string;
  readonly state: StateFolder;
  /** PEM file trusted by outbound TLS besides Node's own roots. */
  readonly caBundle?: string;
  /** Whether components' output is thrown away. */
  readonly quiet: boolean;
};

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs an app until it ends or a signal ends it, and gives the exit code: the engine's, or 128+n when signal n came
 * before the app served. Throws what `prepare` and the engine throw.
 */
export async function runApp(run: AppRun, context: CommandContext): Promise<number> {
  // Before the processes it starts put anything there: the store refuses a folder that others may write to.
  await mkdir(run.job.storeDir, { recursive: true, mode: 0o700 });
  // The preparer inherits this: its second start takes half the time of the first.
  process.env.NODE_COMPILE_CACHE ??= join(run.job.storeDir, 'compile-cache');
  const interrupts = new Interrupts();
  const booting = EngineProcess.spawn({ inheritOutput: true });
  try {
    const checked = new CheckedFiles();
    const preparing = prepare(run.job, {
      checked,
      signal: interrupts.beforeServing,
      warn: (line) => context.err(`warning: ${line}`),
    });
    const [prepared, engine] = await Promise.all([preparing, booting]);
    interrupts.engine = engine;
    const app = withEnvironment(prepared, run.environment);
    context.err(...storeSummary(app.app, run.config, run.state));
    await engine.claim({ ...claimOf(run, app, context), checked: checked.of(prepared) });
    const { addresses } = await engine.start();
    interrupts.serving = true;
    context.out(...addresses.flatMap((address) => servingLines(address, app)));
    const exit = await engine.exited;
    if (exit.exitCode !== 0) context.err(`error: the app ended with exit code ${exit.exitCode}`);
    return exit.exitCode;
  } catch (error) {
    if (interrupts.received !== undefined) return 128 + constants.signals[interrupts.received];
    throw error;
  } finally {
    interrupts.close();
    await booting.then(
      (engine) => {
        engine.signal('SIGKILL');
        return engine.exited;
      },
      () => undefined,
    );
  }
}

/** Signals of the terminal and of whoever runs us, passed on to the engine. */
class Interrupts {
  engine: EngineProcess | undefined;
  /** Whether a signal now lets the app finish its requests; before that it ends everything. */
  serving = false;
  received: NodeJS.Signals | undefined;
  readonly #abort = new AbortController();
  readonly #listener = (signal: NodeJS.Signals): void => {
    const again = this.received !== undefined;
    this.received = signal;
    this.#abort.abort();
    this.engine?.signal(again || !this.serving ? 'SIGKILL' : signal);
  };

  constructor() {
    for (const signal of forwarded) process.on(signal, this.#listener);
  }

  /** Aborted by the first signal. */
  get beforeServing(): AbortSignal {
    return this.#abort.signal;
  }

  close(): void {
    for (const signal of forwarded) process.off(signal, this.#listener);
  }
}

/** The app with variables added to each component's environment; one of the manifest with the same name loses. */
export function withEnvironment(prepared: PreparedApp, added: readonly Pair[]): PreparedApp {
  const components = prepared.app.components.map((component) => ({
    ...component,
    environment: [...new Map([...component.environment, ...added])],
  }));
  return { ...prepared, app: { ...prepared.app, components } };
}

function claimOf(run: AppRun, prepared: PreparedApp, { env, cwd }: CommandContext): EngineClaim {
  const output = (fd: number): EngineOutput => (run.quiet ? { kind: 'null' } : { kind: 'fd', fd });
  return {
    id: prepared.app.name,
    prepared,
    network: { kind: 'host' },
    environment: settingsOf(env, prepared),
    args: [],
    stdout: output(1),
    stderr: output(2),
    stateDir: run.state.path,
    listen: run.listen,
    variables: run.variables,
    workingDir: cwd,
    announce: false,
    ...(run.configPath === undefined ? {} : { runtimeConfig: run.configPath }),
    ...(run.caBundle === undefined ? {} : { caBundle: run.caBundle }),
  };
}

/**
 * The environment for providers and settings. In a container a variable named like an application variable in upper
 * case is its value (reference/spin.md 6.3); on the command line, where `HOME` and `PATH` are about, it is not.
 */
export function settingsOf(env: ReadonlyMap<string, string>, { app }: PreparedApp): readonly Pair[] {
  const left = new Set(['SPIN_HTTP_LISTEN_ADDR', ...app.variables.map(({ name }) => name.toUpperCase())]);
  return [...env].filter(([name]) => !left.has(name));
}

function servingLines(address: string, { app }: PreparedApp): readonly string[] {
  const triggers = app.triggers.filter((trigger): trigger is HttpTrigger => trigger.type === 'http');
  return routeLines(address, new Router(triggers).routes, app.components);
}
