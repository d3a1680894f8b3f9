import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { EngineProcess, RunningExec } from '../engine/engine-process.ts';
import { type Cleanup, TestEngine, temporaryFolder } from '../engine/test-engine.ts';
import { bytesInPipe } from '../linux.ts';

/** Bytes that a FIFO holds. */
const pipeBytes = 64 * 1024;

export type ExecOutcome = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

/** An exec whose streams are in the test's hands, over real FIFOs. */
export class TestExec {
  readonly running: RunningExec;
  /** What came on stdout so far. */
  output = '';
  complaint = '';
  readonly #writer: Socket;
  /** Read end of stdout, to look at how full it is. */
  readonly #probe: number;
  readonly #outputs: readonly Socket[];
  readonly #closed: Promise<unknown>;
  #changed = Promise.withResolvers<void>();

  private constructor(running: RunningExec, writer: Socket, stdout: Socket, stderr: Socket, probe: number) {
    this.running = running;
    this.#writer = writer;
    this.#probe = probe;
    this.#outputs = [stdout, stderr];
    stdout.setEncoding('utf8').on('data', (chunk: string) => {
      this.output += chunk;
      this.#notify();
    });
    stderr.setEncoding('utf8').on('data', (chunk: string) => {
      this.complaint += chunk;
      this.#notify();
    });
    this.#closed = Promise.all(
      this.#outputs.map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    );
  }

  type(text: string): void {
    this.#writer.write(text);
  }

  /** Stops reading the output. */
  pause(): void {
    for (const socket of this.#outputs) socket.pause();
  }

  resume(): void {
    for (const socket of this.#outputs) socket.resume();
  }

  /** Resolves when the pipe has all that it holds without being read. */
  async pending(): Promise<void> {
    while (bytesInPipe(this.#probe) < pipeBytes) await new Promise(setImmediate);
  }

  /** The input ends. */
  end(): void {
    this.#writer.end();
  }

  /** Resolves when the output is as wanted. */
  async until(isReached: (output: string) => boolean): Promise<string> {
    while (!isReached(this.output)) await this.#changed.promise;
    return this.output;
  }

  /** The whole of it once it has ended. */
  async outcome(): Promise<ExecOutcome> {
    const exitCode = await this.running.exited;
    await this.#closed;
    this.#writer.destroy();
    return { exitCode, stdout: this.output, stderr: this.complaint };
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  static start(
    engine: EngineProcess,
    folder: string,
    args: readonly string[],
    {
      terminal = false,
      environment = [],
    }: {
      readonly terminal?: boolean;
      readonly environment?: readonly (readonly [string, string])[];
    } = {},
  ): TestExec {
    const id = `e${count++}`;
    const paths = ['in', 'out', 'err'].map((name) => join(folder, `${id}-${name}`));
    execFileSync('mkfifo', paths);
    const [stdin = '', stdout = '', stderr = ''] = paths;
    const openAt = (path: string, flags: number): number => openSync(path, flags | constants.O_NONBLOCK);
    const theirs = [stdin, stdout, stderr].map((path) => openAt(path, constants.O_RDWR));
    const input = openAt(stdin, constants.O_RDONLY);
    const streams = ['stdin', 'stdout', 'stderr'] as const;
    const [, second = -1, third = -1] = theirs;
    const readers = [stdout, stderr].map((path) => openAt(path, constants.O_RDONLY));
    const typing = openAt(stdin, constants.O_WRONLY);
    let running: RunningExec;
    try {
      running = engine.exec({ id, args, environment, terminal, streams }, [input, second, third]);
    } catch (error) {
      for (const fd of [...readers, typing]) closeSync(fd);
      throw error;
    } finally {
      for (const fd of [...theirs, input]) closeSync(fd);
    }
    const [probe = -1, other = -1] = readers;
    const out = new Socket({ fd: probe, readable: true, writable: false });
    const err = new Socket({ fd: other, readable: true, writable: false });
    const writer = new Socket({ fd: typing, readable: false, writable: true });
    return new TestExec(running, writer, out, err, probe);
  }
}

let count = 0;

/** An engine with an app whose debug shell is under test. */
export class TestShell {
  readonly engine: TestEngine;
  readonly #folder: string;

  constructor(engine: TestEngine, folder: string) {
    this.engine = engine;
    this.#folder = folder;
  }

  static async start(t: Cleanup, ...engine: StartArguments): Promise<TestShell> {
    return new TestShell(await TestEngine.start(t, ...engine), await temporaryFolder(t));
  }

  exec(args: readonly string[], options: Parameters<typeof TestExec.start>[3] = {}): TestExec {
    return TestExec.start(this.engine.process, this.#folder, args, options);
  }

  /** Runs a command to its end, without input. */
  run(args: readonly string[], options: Parameters<typeof TestExec.start>[3] = {}): Promise<ExecOutcome> {
    const exec = this.exec(args, options);
    exec.end();
    return exec.outcome();
  }

  /** The same for a script. */
  sh(script: string, options: Parameters<typeof TestExec.start>[3] = {}): Promise<ExecOutcome> {
    return this.run(['/bin/sh', '-c', script], options);
  }
}

type StartArguments = Parameters<typeof TestEngine.start> extends [unknown, ...infer Rest] ? Rest : never;
