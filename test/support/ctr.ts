import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { endProcess } from './processes.ts';
import { waitFor } from './wait.ts';

/** Default bound of one `ctr` call in milliseconds. */
const defaultTimeoutMs = 30_000;
/** Default bound of what a `ctr` call may print, in bytes. */
const outputLimitBytes = 16 * 1024 * 1024;

/** What a finished `ctr` printed. */
export type CtrOutput = { readonly stdout: string; readonly stderr: string };

/** A `ctr` that ended with an exit code other than 0, or did not end in time (exitCode is then null). */
export class CtrError extends Error {
  override readonly name = 'CtrError';
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;

  constructor(args: readonly string[], exitCode: number | null, output: CtrOutput) {
    super(`"ctr ${args.join(' ')}" ended with ${exitCode ?? 'a timeout'}: ${output.stderr || output.stdout}`);
    this.exitCode = exitCode;
    this.stdout = output.stdout;
    this.stderr = output.stderr;
  }
}

/** One event as `ctr events` prints it. */
export type CtrEvent = {
  readonly namespace: string;
  /** For example `/tasks/exit`. */
  readonly topic: string;
  readonly payload: Readonly<Record<string, unknown>>;
};

export type CtrRunInput = {
  readonly image: string;
  readonly id: string;
  readonly runtime: string;
  readonly args?: readonly string[];
  /** Further options of `ctr run`, for example `--env`, `A=b`. */
  readonly options?: readonly string[];
  readonly timeoutMs?: number;
};

/** The `ctr` command line against one containerd and one namespace. */
export class Ctr {
  readonly #address: string;
  readonly #namespace: string;
  readonly #cgroupParent: string;
  readonly #fifoDir: string;

  constructor(options: {
    readonly address: string;
    readonly namespace: string;
    readonly cgroupParent: string;
    readonly fifoDir: string;
  }) {
    this.#address = options.address;
    this.#namespace = options.namespace;
    this.#cgroupParent = options.cgroupParent;
    this.#fifoDir = options.fifoDir;
  }

  /** Runs `ctr ARGS`; rejects with a `CtrError` unless it exits with 0. */
  exec(args: readonly string[], { timeoutMs = defaultTimeoutMs } = {}): Promise<CtrOutput> {
    return new Promise((resolve, reject) => {
      const options = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: outputLimitBytes } as const;
      execFile('ctr', this.#global(args), options, (error, stdout, stderr) => {
        if (error === null) resolve({ stdout, stderr });
        else if (typeof error.code === 'string') reject(error);
        else
          reject(new CtrError(args, error.killed === true ? null : (error.code ?? null), { stdout, stderr }));
      });
    });
  }

  /** `ctr run`, with the container's cgroup and FIFOs where cleanup finds them. */
  run({
    image,
    id,
    runtime,
    args = [],
    options = [],
    timeoutMs = defaultTimeoutMs,
  }: CtrRunInput): Promise<CtrOutput> {
    const placed = [
      '--runtime',
      runtime,
      '--cgroup',
      `${this.#cgroupParent}/${this.#namespace}/${id}`,
      '--fifo-dir',
      this.#fifoDir,
    ];
    return this.exec(['run', ...placed, ...options, image, id, ...args], { timeoutMs });
  }

  /** Starts `ctr events` and returns once it is proven to be subscribed. */
  async events(): Promise<EventStream> {
    const child = spawn('ctr', this.#global(['events']), { stdio: ['ignore', 'pipe', 'inherit'] });
    const stream = new EventStream(child);
    const probe = `probe-${process.pid}-${child.pid ?? 0}`;
    let created = false;
    try {
      await waitFor('ctr to be subscribed to events', async () => {
        await this.exec(['namespaces', 'label', probe, `at=${performance.now()}`]).catch(async () => {
          await this.exec(['namespaces', 'create', probe]);
          created = true;
        });
        return stream.all.some((event) => event.payload.name === probe);
      });
    } catch (error) {
      await stream.stop();
      throw error;
    } finally {
      if (created) await this.exec(['namespaces', 'remove', probe]);
    }
    return stream;
  }

  #global(args: readonly string[]): string[] {
    return ['--address', this.#address, '--namespace', this.#namespace, ...args];
  }
}

/** Collects the events of all namespaces from the moment it was made until `stop`. */
export class EventStream {
  readonly #child: ChildProcess;
  readonly #events: CtrEvent[] = [];
  #rest = '';

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) {
        const event = parseEvent(line);
        if (event !== undefined) this.#events.push(event);
      }
    });
  }

  /** Everything so far, in the order it came. */
  get all(): readonly CtrEvent[] {
    return this.#events;
  }

  /** Waits for the first event, past or future, that fulfils the predicate. */
  waitFor(predicate: (event: CtrEvent) => boolean): Promise<CtrEvent> {
    return waitFor('an event', () => this.#events.find(predicate), {
      explain: () => `events so far:\n${this.#events.map((event) => JSON.stringify(event)).join('\n')}`,
    });
  }

  stop(): Promise<void> {
    return endProcess(this.#child);
  }
}

/** `2026-01-02 03:04:05.6 +0000 UTC k8s.io /tasks/exit {"id":"x"}` */
function parseEvent(line: string): CtrEvent | undefined {
  const brace = line.indexOf(' {');
  if (brace < 0) return undefined;
  const words = line.slice(0, brace).split(' ');
  const topic = words.pop();
  const namespace = words.pop();
  if (topic === undefined || namespace === undefined) return undefined;
  return { namespace, topic, payload: JSON.parse(line.slice(brace + 1)) };
}
