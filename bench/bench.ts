import { isBuilt, type SampleApp } from '../test/support/apps.ts';
import { BenchNode } from './bench-node.ts';

/** What a user may change of a run; a part takes its own number where nothing is said. */
export type BenchFlags = {
  readonly rounds?: number;
  /** Length of one round of load. */
  readonly seconds?: number;
  /** Requests of the long run. */
  readonly requests?: number;
};

/** A run of the benchmarks: what the parts share. */
export class Bench {
  readonly flags: BenchFlags;
  readonly signal: AbortSignal;
  #node: Promise<BenchNode> | undefined;

  constructor(flags: BenchFlags, signal: AbortSignal) {
    this.flags = flags;
    this.signal = signal;
  }

  /** The private containerd with our shim and the sample apps, started when a part first asks. */
  node(): Promise<BenchNode> {
    this.#node ??= BenchNode.start(this.signal, benchApps());
    return this.#node;
  }

  /** Calls `round` for each of them, unless the benchmark is to end. */
  async rounds(count: number, round: (index: number) => Promise<void>): Promise<void> {
    for (let index = 0; index < (this.flags.rounds ?? count); index++) {
      this.signal.throwIfAborted();
      await round(index);
    }
  }

  async stop(): Promise<void> {
    await (await this.#node)?.stop();
  }
}

/** The sample apps of the benchmarks. Throws when one is not built: a table with a row missing is no result. */
function benchApps(): readonly SampleApp[] {
  const apps = ['hello', 'rust-http', 'js-api', 'bench-guest'] as const;
  const missing = apps.filter((app) => !isBuilt(app));
  if (missing.length > 0) throw new Error(`not built: ${missing.join(', ')}; run "make samples" first`);
  return apps;
}
