import { EngineProcess } from '../engine/engine-process.ts';
import type { Logger } from '../telemetry/log.ts';

/** Engines that are kept booted unless the configuration says otherwise. */
export const defaultWarmEngines = 1;

/** Most engines that may be kept booted; each holds some 50 MB. */
export const maxWarmEngines = 64;

/** Keeps a number of engines booted, so that a container does not wait for one. */
export class EnginePool {
  readonly #size: number;
  readonly #log: Logger;
  readonly #warm: Promise<EngineProcess | undefined>[] = [];
  #closed = false;

  constructor(size: number, log: Logger) {
    this.#size = Math.min(maxWarmEngines, Math.max(0, Math.trunc(size)));
    this.#log = log;
    this.#fill();
  }

  /** An engine that waits to be claimed; its place is filled in the background. Rejects `unavailable`. */
  async take(): Promise<EngineProcess> {
    const next = this.#warm.shift();
    const engine = await next;
    // Not before this one is up: two that boot at once are both late.
    if (engine !== undefined) setImmediate(() => this.#fill());
    return engine ?? EngineProcess.spawn();
  }

  /** Ends the engines that nobody took. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const engine of await Promise.all(this.#warm.splice(0))) engine?.signal('SIGKILL');
  }

  #fill(): void {
    while (!this.#closed && this.#warm.length < this.#size) {
      const booting: Promise<EngineProcess | undefined> = EngineProcess.spawn().then(
        (engine) => {
          engine.rehearse();
          void engine.exited.then(() => this.#drop(booting));
          return engine;
        },
        (error: unknown) => {
          this.#log.warn({ err: error }, 'a warm engine did not boot');
          this.#drop(booting);
          return undefined;
        },
      );
      this.#warm.push(booting);
    }
  }

  /** Forgets one that ended by itself. It is not replaced before the next `take`: it might end again and again. */
  #drop(booting: Promise<EngineProcess | undefined>): void {
    const index = this.#warm.indexOf(booting);
    if (index >= 0) this.#warm.splice(index, 1);
  }
}
