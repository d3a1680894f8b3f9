import { mkdtemp, rm } from 'node:fs/promises';
import { setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { appOfComponent, httpTriggersOf } from '../app/single-component.ts';
import type { App } from '../app/types.ts';
import { ShimError } from '../error.ts';
import { writeCode } from './code-store.ts';
import { EngineProcess } from './engine-process.ts';
import type { PreparedApp } from './prepared-app.ts';

/** Who a learning engine is: nobody, who owns nothing on the node. */
const nobody = 65_534;

/** Bytes of memory that a guest may have while it is learned from. */
const memoryLimit = 512 * 1024 ** 2;

/** Nothing else has to wait for it. */
const lowestPriority = 19;

/** Paths that one component is asked for at most. */
const maxPaths = 8;

/** On a node that is busy, what has the lowest priority computes for long before it has computed much. */
const defaultBusyTimeoutMs = 30_000;

export type LearnOptions = {
  /** Absolute path of the launcher, through which engines boot. */
  readonly launcher?: string;
  /** Told the pid of the engine that learns, once it is there. */
  readonly onEngine?: (engine: EngineProcess) => void;
  /** How long a guest may compute, milliseconds. */
  readonly busyTimeoutMs?: number;
  readonly warn: (line: string) => void;
};

/**
 * Runs one component of an app in an engine of its own, without anything that the app was given, asks it for its routes and
 * keeps the machine code that V8 made of what was run: the engines that come have it from the start. What the guest does is
 * seen by nobody: it has no network, no files, no variables, no secrets, and its output goes nowhere. The code is a matter
 * of the component alone, so nobody who runs the same one can have put anything into it.
 *
 * Gives the bytes kept. Rejects `unavailable` or `deadline-exceeded` when the engine ended or took too long, and as a claim
 * does when the component needs something to start that it is not given here.
 */
export async function learnCode(
  { app, components }: PreparedApp,
  id: string,
  { launcher, onEngine, busyTimeoutMs = defaultBusyTimeoutMs, warn }: LearnOptions,
): Promise<number> {
  const prepared = components.find((component) => component.id === id);
  if (prepared === undefined) throw new ShimError('not-found', `component "${id}" is not in the app`);
  const stateDir = await mkdtemp(join(tmpdir(), 'spinshim-learn-'));
  try {
    const engine = await EngineProcess.spawn({
      ...(launcher === undefined ? {} : { launcher }),
      // Before it has threads, which take it over.
      place: async (pid) => setPriority(pid, lowestPriority),
    });
    try {
      onEngine?.(engine);
      await engine.claim({
        id: 'learning',
        prepared: { app: bareApp(app, id), components: [prepared] },
        network: { kind: 'new' },
        environment: [
          ['SPIN_WORKERS', '1'],
          ['SPIN_BUSY_TIMEOUT', `${busyTimeoutMs}ms`],
        ],
        args: [],
        stdout: { kind: 'null' },
        stderr: { kind: 'null' },
        stateDir,
        memoryLimit,
        // It is alone in its network; a port that needs no right.
        listen: '127.0.0.1:8080',
        announce: false,
        security: { uid: nobody, gid: nobody, groups: [], capabilities: [], limits: [] },
        learns: true,
      });
      await engine.start();
      const code = await engine.learn(pathsOf(app, id));
      const modules = new Map(code.find((learned) => learned.id === id)?.modules ?? []);
      await writeCode(prepared.entryPath, modules, warn);
      return [...modules.values()].reduce((sum, { length }) => sum + length, 0);
    } finally {
      engine.signal('SIGKILL');
      await engine.exited;
    }
  } finally {
    await rm(stateDir, { recursive: true, force: true });
  }
}

/** An app of nothing but the component, which has nothing but its code. */
function bareApp(app: App, id: string): App {
  const source = app.components.find((component) => component.id === id)?.source ?? { path: '', digest: '' };
  const executor = httpTriggersOf(app, id)[0]?.executor;
  return appOfComponent('learning', { id, source }, executor === undefined ? {} : { executor });
}

/** A path for each route of the component: what stands for anything is `x`. */
function pathsOf(app: App, id: string): readonly string[] {
  const paths = httpTriggersOf(app, id).map(({ route }) =>
    route.kind === 'path' ? route.path.replace(/\/\.\.\.$/, '/').replaceAll(/\/:[^/]+/g, '/x') : '/',
  );
  return [...new Set(['/', '/x', '/x/x', ...paths])].slice(0, maxPaths);
}
