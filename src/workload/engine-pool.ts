import { type EngineBirth, EngineProcess, type EngineSpawnOptions } from '../engine/engine-process.ts';
import type { Logger } from '../telemetry/log.ts';

/** Engines that are kept booted unless the configuration says otherwise. */
export const defaultWarmEngines = 1;

/** Most engines that may be kept booted; each holds some 50 MB. */
export const maxWarmEngines = 64;

/**
 * When the next engine begins to boot, milliseconds: some time after the container that took one serves, so that its first
 * requests come first, or has failed; and, where it is never started, after it was taken. A boot beside a pod's start on two processors makes
 * both late.
 */
const refillDelayMs = { settled: 50, taken: 1_000 } as const;

/** Keeps a number of engines booted, so that a container does not wait for one. */
export class EnginePool {
  readonly #size: number;
  readonly #log: Logger;
  readonly #launcher: string | undefined;
  readonly #warm: Promise<EngineProcess | undefined>[] = [];
  #closed = false;
  #refill: NodeJS.Timeout | undefined;

  /** `launcher`: absolute path of the launcher, through which engines boot without io_uring. */
  constructor(size: number, log: Logger, launcher?: string) {
    this.#size = Math.min(maxWarmEngines, Math.max(0, Math.trunc(size)));
    this.#log = log;
    this.#launcher = launcher;
    this.#fill();
  }

  /**
   * An engine that waits to be claimed; its place is filled after `settled`. `place` puts its process where it belongs;
   * where none waits, before it boots, so that all of its memory is counted there. One with a `birth` of its own is none that
   * waits. Rejects `unavailable`, or as `place` does.
   */
  async take(place: (pid: number) => Promise<void>, birth?: EngineBirth): Promise<EngineProcess> {
    if (birth !== undefined) return this.#spawn({ place, birth });
    const next = this.#warm.shift();
    this.#refillIn(refillDelayMs.taken);
    const engine = await next;
    if (engine === undefined) return this.#spawn({ place });
    await place(engine.pid).catch((error: unknown) => {
      engine.signal('SIGKILL');
      throw error;
    });
    return engine;
  }

  /** Tells that a container that took an engine serves, or will not. */
  settled(): void {
    this.#refillIn(refillDelayMs.settled);
  }

  /** Ends the engines that nobody took. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#refill);
    for (const engine of await Promise.all(this.#warm.splice(0))) engine?.signal('SIGKILL');
  }

  #spawn(options: EngineSpawnOptions): Promise<EngineProcess> {
    return EngineProcess.spawn(
      this.#launcher === undefined ? options : { ...options, launcher: this.#launcher },
    );
  }

  #refillIn(milliseconds: number): void {
    clearTimeout(this.#refill);
    this.#refill = setTimeout(() => this.#fill(), milliseconds);
  }

  #fill(): void {
    while (!this.#closed && this.#warm.length < this.#size) {
      const booting: Promise<EngineProcess | undefined> = this.#spawn({}).then(
        (engine) => {
          void engine.rehearse();
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
