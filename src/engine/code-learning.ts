import { ShimError } from '../error.ts';
import { type CompiledCode, tieringBudget } from './compiled-code.ts';
import type { CompiledComponent } from './core-modules.ts';
import { limitInstanceMemory } from './instance-memory.ts';
import type { LearnedCode } from './messages.ts';
import { setV8Flag } from './v8-flags.ts';

/**
 * How much of a function is run before V8 optimizes it while code is learned. Of optimized code alone V8 gives anything away,
 * and what a function calls most it puts into it, so each has to be seen some times.
 */
const learningBudget = 50;

/**
 * How often it is looked whether V8 still optimizes; looks in a row that find it idle and nothing new, after which it has
 * ended; and looks at most. Optimizing one function takes V8 up to some hundred milliseconds.
 */
const lookEveryMs = 100;
const quietLooks = 5;
const maxLooks = 400;

/** CPU time of this process between two looks, milliseconds, below which V8 does nothing. */
const idleMs = 10;

/** From now on, and until `learnedCode`, functions of guests are optimized after a few calls. */
export function beginLearning(): void {
  setV8Flag(`--wasm-tiering-budget=${learningBudget}`);
}

/** Requests for each path from which V8 learns what to optimize. */
const requestCount = 20;

/** Time for all of them, milliseconds: what was run until then is what is learned. */
const requestsTimeoutMs = 10_000;

/**
 * Asks the app on a port of this network for each of some paths, several times. What it answers does not matter. Rejects
 * `unavailable` when it cuts a connection: its guest took its worker along.
 */
export async function exercise(port: number, paths: readonly string[]): Promise<void> {
  const end = performance.now() + requestsTimeoutMs;
  for (let count = 0; count < requestCount; count += 1)
    for (const path of paths) {
      if (performance.now() > end) return;
      await ask(port, path);
    }
}

function ask(port: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = process
      .getBuiltinModule('node:http')
      .get({ host: '127.0.0.1', port, path, agent: false }, (answer) => {
        answer.on('error', reject).on('end', resolve).resume();
      });
    request.on('error', (cause) =>
      reject(new ShimError('unavailable', `the request for "${path}" was cut: ${cause.message}`, { cause })),
    );
  });
}

/** The code of some components once V8 has optimized what was run of them. */
export async function learnedCode(
  components: readonly CompiledComponent[],
  compiledCode: CompiledCode,
): Promise<readonly LearnedCode[]> {
  // Code counts only where V8 has the flags that it was taken out with.
  limitInstanceMemory();
  setV8Flag(`--wasm-tiering-budget=${tieringBudget}`);
  let before = -1;
  let quiet = 0;
  for (let look = 0; look < maxLooks; look += 1) {
    const code = components.map(({ id, modules }) => ({
      id,
      modules: [...modules].map(([name, module]) => [name, module, compiledCode.of(module)] as const),
    }));
    const bytes = code.flatMap(({ modules }) => modules).reduce((sum, [, , { length }]) => sum + length, 0);
    if (quiet >= quietLooks)
      return code.map(({ id, modules }) => ({
        id,
        modules: modules.map(([name, module, learned]) => [name, compiledCode.withBudgets(module, learned)]),
      }));
    const start = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
    const { user, system } = process.cpuUsage(start);
    quiet = bytes === before && bytes > 0 && user + system < 1000 * idleMs ? quiet + 1 : 0;
    before = bytes;
  }
  throw new ShimError('deadline-exceeded', `V8 was not done within ${(lookEveryMs * maxLooks) / 1000} s`);
}
