import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { type ExecStart, type ExecStream, execStreams, type TerminalSize } from '../engine/exec-messages.ts';
import { ShimError } from '../error.ts';
import type { AppAccess } from './app-access.ts';
import { commandNames } from './commands.ts';
import type { EngineAccess } from './engine-access.ts';
import {
  exitOf,
  Interpreter,
  interruptedExitCode,
  type Script,
  type Surroundings,
  scriptOf,
  shells,
  unknownExitCode,
} from './interpreter.ts';
import { LineEditor } from './line-editor.ts';
import {
  type DescriptorOutput,
  FifoOutput,
  FileOutput,
  type Input,
  linesOf,
  noInput,
  nowhere,
  type Output,
  TerminalOutput,
} from './streams.ts';
import { visibleText } from './terminal-text.ts';

/** Characters that are kept while a command runs, for the line after it. */
const maxTypedAhead = 1_024;

/** Signals that end nothing: 0, SIGCHLD, SIGCONT, the stopping ones, SIGURG, SIGWINCH. */
const harmless: ReadonlySet<number> = new Set([0, 17, 18, 19, 20, 21, 22, 23, 28]);

/** Exit code of a shell whose terminal has gone: 128 + SIGHUP. */
const hangUpExitCode = 129;

/** One exec: its streams, the command or shell on them, its exit code. */
export class ExecSession {
  readonly #exec: ExecStart;
  readonly #app: AppAccess;
  readonly #engine: EngineAccess;
  readonly #killed = new AbortController();
  readonly #killedWith = Promise.withResolvers<number>();
  readonly #stdin: Socket | undefined;
  readonly #outputs: readonly DescriptorOutput[];
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #raw: DescriptorOutput | undefined;
  readonly #editor: LineEditor;
  readonly #variables: Map<string, string>;
  /** Gets what is typed; undefined while nobody reads. */
  #onCharacter: ((character: string) => void) | undefined;
  #onInterrupt: (() => void) | undefined;
  #typedAhead: string[] = [];

  /** Takes the descriptors over, which stand in the order of the streams that `exec` names. */
  constructor(exec: ExecStart, fds: readonly number[], app: AppAccess, engine: EngineAccess) {
    this.#exec = exec;
    this.#app = app;
    this.#engine = engine;
    this.#variables = app.withoutSecrets(exec.environment);
    const byStream = new Map<ExecStream, number>();
    const present = execStreams.filter((name) => exec.streams.includes(name));
    present.forEach((name, index) => {
      const fd = fds[index];
      if (fd !== undefined) byStream.set(name, fd);
    });
    const output = (name: ExecStream): DescriptorOutput | undefined => {
      const fd = byStream.get(name);
      if (fd === undefined) return undefined;
      return fstatSync(fd).isFile() ? new FileOutput(fd) : new FifoOutput(fd);
    };
    const [stdout, stderr] = [output('stdout'), output('stderr')];
    this.#outputs = [stdout, stderr].filter((stream) => stream !== undefined);
    this.#raw = exec.terminal ? stdout : undefined;
    this.#stdout = this.#raw === undefined ? (stdout ?? nowhere) : new TerminalOutput(this.#raw);
    this.#stderr = this.#raw === undefined ? (stderr ?? nowhere) : this.#stdout;
    const input = byStream.get('stdin');
    this.#stdin =
      input === undefined ? undefined : new Socket({ fd: input, readable: true, writable: false });
    this.#stdin?.on('error', () => this.#stdin?.destroy());
    this.#editor = new LineEditor(`${visibleText(app.app.name)} $ `, (word) =>
      commandNames.filter((name) => name.startsWith(word)),
    );
  }

  /** Runs it to its end and closes the streams. Never rejects. */
  async run(): Promise<number> {
    const killed = this.#killedWith.promise;
    const main = this.#main().catch(async (thrown: unknown) => {
      if (!this.#killed.signal.aborted) await this.#stderr.write(`sh: ${ShimError.from(thrown).message}\n`);
      return 1;
    });
    const exitCode = await Promise.race([main, killed]);
    // As a process that waits for its reader, it has not ended before all is written; but it can be killed.
    const written = Promise.all(this.#outputs.map((output) => output.finish())).then(() => exitCode);
    const last = await Promise.race([written, killed]);
    for (const output of this.#outputs) output.close();
    this.#stdin?.destroy();
    return last;
  }

  /** As a process of its own would take it: all but a few signals end it. */
  signal(signal: number): void {
    if (!harmless.has(signal)) this.#end(128 + signal);
  }

  /** Commands learn the size from the variables that shells keep it in. */
  resize({ columns, rows }: TerminalSize): void {
    if (columns > 0) this.#editor.columns = columns;
    this.#variables.set('COLUMNS', String(columns)).set('LINES', String(rows));
  }

  #end(exitCode: number): void {
    this.#killedWith.resolve(exitCode);
    this.#killed.abort(new Error('the command was ended'));
  }

  async #main(): Promise<number> {
    const [path = '', ...args] = this.#exec.args;
    const name = path.slice(path.lastIndexOf('/') + 1);
    const interpreter = new Interpreter();
    const surroundings = this.#surroundings();
    if (this.#exec.terminal) this.#listen();
    if (!shells.has(name)) {
      return this.#interruptible(surroundings, (context) =>
        exitOf(() => interpreter.call(this.#exec.args, context)),
      );
    }
    const script = scriptOf(args);
    if (script !== undefined) return this.#script(interpreter, script, surroundings);
    const file = args.find((arg) => !arg.startsWith('-'));
    if (file !== undefined) {
      await this.#stderr.write(
        `sh: "${file}" cannot be run: scripts are given with "sh -c" or as the input\n`,
      );
      return unknownExitCode;
    }
    if (this.#exec.terminal) return exitOf(() => this.#interactive(interpreter, surroundings));
    return exitOf(() => this.#piped(interpreter, surroundings));
  }

  #script(interpreter: Interpreter, script: Script, surroundings: Surroundings): Promise<number> {
    return this.#interruptible(surroundings, (context) => exitOf(() => interpreter.run(script, context)));
  }

  /** The script is the input, line by line; its commands have no input of their own. */
  async #piped(interpreter: Interpreter, surroundings: Surroundings): Promise<number> {
    for await (const text of linesOf(this.#input())) {
      await interpreter.run({ text }, { ...surroundings, stdin: noInput });
    }
    return interpreter.status;
  }

  async #interactive(interpreter: Interpreter, surroundings: Surroundings): Promise<number> {
    await this.#stdout.write(
      `Debug shell of the Spin app "${this.#app.app.name}"; "help" lists its commands.\n`,
    );
    for (;;) {
      const text = await this.#readLine();
      if (text === undefined) return interpreter.status;
      await this.#interruptible(surroundings, (context) => interpreter.run({ text }, context), interpreter);
    }
  }

  /** Runs something that Ctrl-C ends. */
  async #interruptible(
    surroundings: Surroundings,
    run: (context: Surroundings) => Promise<number>,
    interpreter?: Interpreter,
  ): Promise<number> {
    const interrupted = new AbortController();
    this.#onInterrupt = () => interrupted.abort(new Error('interrupted'));
    try {
      const signal = AbortSignal.any([this.#killed.signal, interrupted.signal]);
      return await run({ ...surroundings, signal });
    } catch (thrown) {
      if (!interrupted.signal.aborted) throw thrown;
      await this.#raw?.write('^C\r\n');
      interpreter?.interrupted();
      return interruptedExitCode;
    } finally {
      this.#onInterrupt = undefined;
    }
  }

  /** A line from the terminal; undefined at its end. */
  async #readLine(): Promise<string | undefined> {
    if (this.#stdin === undefined || this.#stdin.destroyed) return undefined;
    const line = Promise.withResolvers<string | undefined>();
    let shown = Promise.resolve();
    const show = (text: string): void => {
      shown = shown.then(() => this.#raw?.write(text));
    };
    show(this.#editor.start());
    this.#onCharacter = (character) => {
      const { show: text, edit } = this.#editor.type(character);
      show(text);
      switch (edit.kind) {
        case 'editing':
          return;
        case 'interrupt':
          show(this.#editor.start());
          return;
        case 'line':
          line.resolve(edit.text);
          break;
        case 'end':
          line.resolve(undefined);
          break;
        default:
          edit satisfies never;
      }
      this.#onCharacter = undefined;
    };
    for (const character of this.#typedAhead.splice(0)) this.#take(character);
    const text = await line.promise;
    await shown;
    return text;
  }

  /** Reads the terminal from now on. */
  #listen(): void {
    const decoder = new StringDecoder('utf8');
    this.#stdin?.on('data', (chunk: Buffer) => {
      for (const character of decoder.write(chunk)) this.#take(character);
    });
    // Whoever sat there has gone: nothing of the session is to be left.
    this.#stdin?.once('end', () => this.#end(hangUpExitCode));
  }

  #take(character: string): void {
    if (this.#onCharacter !== undefined) this.#onCharacter(character);
    else if (character === '\x03' || character === '\x1c') {
      this.#typedAhead = [];
      this.#onInterrupt?.();
    } else if (this.#typedAhead.length < maxTypedAhead) this.#typedAhead.push(character);
  }

  #input(): Input {
    return this.#stdin ?? noInput;
  }

  #surroundings(): Surroundings {
    return {
      // A terminal is read by the line editor.
      stdin: this.#exec.terminal ? noInput : this.#input(),
      stdout: this.#stdout,
      stderr: this.#stderr,
      signal: this.#killed.signal,
      variables: this.#variables,
      app: this.#app,
      engine: this.#engine,
      terminal: this.#exec.terminal,
      screen: this.#raw,
    };
  }
}
