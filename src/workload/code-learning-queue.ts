import { type LearnOptions, learnCode } from '../engine/code-learner.ts';
import type { ClaimReport, EngineProcess } from '../engine/engine-process.ts';
import type { PreparedApp } from '../engine/prepared-app.ts';
import type { Logger } from '../telemetry/log.ts';

/** Time after the last container came before learning begins, milliseconds. */
const defaultRestMs = 10_000;

/** A node that is too busy now may have time later. */
const maxAttempts = 3;

type Wish = { readonly prepared: PreparedApp; readonly id: string };

/**
 * Has the code of components learned that came without any: one after the other, when no container has come for a while.
 */
export class CodeLearningQueue {
  readonly #log: Logger;
  readonly #options: Pick<LearnOptions, 'launcher'>;
  readonly #restMs: number;
  readonly #wishes = new Map<string, Wish>();
  /** Entry → how often it was tried, those that need not be tried again included. */
  readonly #attempts = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #engine: EngineProcess | undefined;
  #learning: Promise<void> | undefined;
  #closed = false;

  /** `launcher`: absolute path of the launcher, through which engines boot. `restMs` as the constant. */
  constructor(log: Logger, launcher?: string, restMs = defaultRestMs) {
    this.#log = log;
    this.#options = launcher === undefined ? {} : { launcher };
    this.#restMs = restMs;
  }

  /** Tells of a container that was made, and of what its engine says of the app's components. */
  note(prepared: PreparedApp, { components }: ClaimReport): void {
    for (const { id, hasCode } of components) {
      const entry = prepared.components.find((component) => component.id === id)?.entryPath;
      if (hasCode || entry === undefined || (this.#attempts.get(entry) ?? 0) >= maxAttempts) continue;
      this.#wishes.set(entry, { prepared, id });
    }
    this.#rest();
  }

  /** Whether there is something to learn, or being learned. */
  get busy(): boolean {
    return this.#learning !== undefined || (!this.#closed && this.#wishes.size > 0);
  }

  /** Ends it; what is being learned is lost. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#engine?.signal('SIGKILL');
    await this.#learning;
  }

  #rest(): void {
    clearTimeout(this.#timer);
    if (this.#closed || this.#wishes.size === 0 || this.#learning !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#learning = this.#next().finally(() => {
        this.#learning = undefined;
        this.#rest();
      });
    }, this.#restMs).unref();
  }

  async #next(): Promise<void> {
    const [wish] = this.#wishes;
    if (wish === undefined) return;
    const [entry, { prepared, id }] = wish;
    this.#wishes.delete(entry);
    this.#attempts.set(entry, (this.#attempts.get(entry) ?? 0) + 1);
    const start = performance.now();
    try {
      const bytes = await learnCode(prepared, id, {
        ...this.#options,
        onEngine: (engine) => {
          this.#engine = engine;
          if (this.#closed) engine.signal('SIGKILL');
        },
        warn: (line) => this.#log.warn(line),
      });
      this.#attempts.set(entry, maxAttempts);
      const milliseconds = Math.round(performance.now() - start);
      this.#log.info({ component: id, bytes, milliseconds }, 'compiled code of a component is kept');
    } catch (error) {
      if (!this.#closed)
        this.#log.info({ component: id, err: error }, 'no compiled code of a component is kept');
    } finally {
      this.#engine = undefined;
    }
  }
}
