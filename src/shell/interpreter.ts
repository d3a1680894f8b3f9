import { ShimError } from '../error.ts';
import { type CommandContext, CommandFailure } from './command.ts';
import { findCommand, unknownCommand } from './commands.ts';
import { nowhere, type Output, Pipe } from './streams.ts';
import { parseScript, type SimpleCommand, type Step, SyntaxProblem, type Word } from './syntax.ts';

/** Exit code of a script that is none. */
const syntaxExitCode = 2;

/** Exit code of a name that is no command. */
export const unknownExitCode = 127;

/** Exit code at Ctrl-C. */
export const interruptedExitCode = 130;

/** How deep `sh -c` may call itself. */
const maxDepth = 16;

/** The shell is to end; thrown through everything that runs. */
export class ShellExit extends Error {
  override readonly name = 'ShellExit';
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

/** A script as `sh` is given it. */
export type Script = {
  readonly text: string;
  /** `-e`: the first command that fails, without a say in what runs next, ends it. */
  readonly stopAtFailure?: boolean;
};

/** What the commands of a shell share. */
export type Surroundings = Omit<CommandContext, 'args'>;

/** Runs scripts; the exit code of the last command and the variables stay from one to the next. */
export class Interpreter {
  #status = 0;
  #depth = 0;

  /** Exit code of the last command. */
  get status(): number {
    return this.#status;
  }

  /** Runs a script and gives its exit code. Throws `ShellExit` at `exit`, and the signal's reason when it aborts. */
  async run({ text, stopAtFailure = false }: Script, surroundings: Surroundings): Promise<number> {
    let steps: readonly Step[];
    try {
      steps = parseScript(text);
    } catch (thrown) {
      if (!(thrown instanceof SyntaxProblem)) throw thrown;
      await surroundings.stderr.write(`sh: ${thrown.message}\n`);
      this.#status = syntaxExitCode;
      return this.#status;
    }
    for (const [index, step] of steps.entries()) {
      if (step.when === 'success' && this.#status !== 0) continue;
      if (step.when === 'failure' && this.#status === 0) continue;
      const status = await this.#pipeline(step.commands, surroundings);
      this.#status = step.negated ? Number(status === 0) : status;
      const decides = step.negated || (steps[index + 1]?.when ?? 'always') !== 'always';
      if (stopAtFailure && this.#status !== 0 && !decides) return this.#status;
    }
    return this.#status;
  }

  /** Ctrl-C has ended what ran. */
  interrupted(): void {
    this.#status = interruptedExitCode;
  }

  /** Runs one command whose words are given as they are. */
  async call(words: readonly string[], surroundings: Surroundings): Promise<number> {
    this.#status = await this.#command(words, surroundings);
    return this.#status;
  }

  async #pipeline(commands: readonly SimpleCommand[], surroundings: Surroundings): Promise<number> {
    const pipes = commands.slice(1).map(() => new Pipe());
    const abandon = (): void => {
      for (const pipe of pipes) pipe.end();
    };
    surroundings.signal.addEventListener('abort', abandon, { once: true });
    try {
      const ends = await Promise.allSettled(
        commands.map(async (command, index) => {
          const [before, after] = [pipes[index - 1], pipes[index]];
          try {
            return await this.#simple(command, {
              ...surroundings,
              ...(before === undefined ? {} : { stdin: before }),
              ...(after === undefined ? {} : { stdout: after }),
            });
          } finally {
            before?.end();
            after?.end();
          }
        }),
      );
      const failure = ends.find((end) => end.status === 'rejected');
      if (failure !== undefined) throw failure.reason;
      const last = ends.at(-1);
      return last?.status === 'fulfilled' ? last.value : 0;
    } finally {
      surroundings.signal.removeEventListener('abort', abandon);
    }
  }

  async #simple(command: SimpleCommand, surroundings: Surroundings): Promise<number> {
    const { stdout, stderr, signal } = surroundings;
    const guarded = (output: Output): Output => ({
      write: async (content) => {
        signal.throwIfAborted();
        await output.write(content);
      },
    });
    const outputs = { stdout: guarded(stdout), stderr: guarded(stderr), nowhere };
    const assigned = command.assignments.map(
      ([name, word]) => [name, this.#expand(word, surroundings.variables).join(' ')] as const,
    );
    const words = command.words.flatMap((word) => this.#expand(word, surroundings.variables));
    if (words.length === 0) {
      for (const [name, value] of assigned) surroundings.variables.set(name, value);
      return 0;
    }
    return this.#command(words, {
      ...surroundings,
      variables:
        assigned.length === 0 ? surroundings.variables : new Map([...surroundings.variables, ...assigned]),
      stdout: outputs[command.stdout],
      stderr: outputs[command.stderr],
    });
  }

  /** The fields of a word; none if it is only a variable without a value. */
  #expand(word: Word, variables: ReadonlyMap<string, string>): readonly string[] {
    const fields: string[] = [];
    let field: string | undefined;
    for (const part of word) {
      if (part.kind === 'text') {
        field = (field ?? '') + part.text;
        continue;
      }
      const given = part.name === '?' ? String(this.#status) : variables.get(part.name);
      const value =
        (given === undefined || given === '') && part.fallback !== undefined ? part.fallback : (given ?? '');
      if (part.quoted) {
        field = (field ?? '') + value;
        continue;
      }
      const pieces = value.split(/[ \t\n]+/);
      pieces.forEach((piece, index) => {
        if (index > 0 && field !== undefined) {
          fields.push(field);
          field = undefined;
        }
        if (piece !== '') field = (field ?? '') + piece;
      });
    }
    return field === undefined ? fields : [...fields, field];
  }

  async #command(words: readonly string[], surroundings: Surroundings): Promise<number> {
    const [path = '', ...args] = words;
    const name = path.slice(path.lastIndexOf('/') + 1);
    try {
      return await this.#dispatch(name, args, surroundings);
    } catch (thrown) {
      if (surroundings.signal.aborted || thrown instanceof ShellExit) throw thrown;
      const exitCode = thrown instanceof CommandFailure ? thrown.exitCode : 1;
      await surroundings.stderr.write(`${name}: ${ShimError.from(thrown).message}\n`);
      return exitCode;
    }
  }

  async #dispatch(name: string, args: readonly string[], surroundings: Surroundings): Promise<number> {
    if (name === 'exit') throw new ShellExit(exitCodeOf(args[0], this.#status));
    if (name === 'exec') throw new ShellExit(args.length === 0 ? 0 : await this.#command(args, surroundings));
    if (shells.has(name)) return this.#shell(args, surroundings);
    const command = findCommand(name);
    if (command !== undefined) return command.run({ ...surroundings, args });
    await surroundings.stderr.write(`${unknownCommand(name)}\n`);
    return unknownExitCode;
  }

  /** `sh -c SCRIPT` inside of the shell; its `exit` and its variables are its own. */
  async #shell(args: readonly string[], surroundings: Surroundings): Promise<number> {
    const script = scriptOf(args);
    if (script === undefined) {
      await surroundings.stderr.write('sh: this is the shell already; "sh -c" runs a script\n');
      return syntaxExitCode;
    }
    if (this.#depth >= maxDepth) throw new CommandFailure(`"sh -c" calls itself more than ${maxDepth} times`);
    const inner = new Interpreter();
    inner.#depth = this.#depth + 1;
    return exitOf(() => inner.run(script, { ...surroundings, variables: new Map(surroundings.variables) }));
  }
}

/** Names that mean this shell. */
export const shells: ReadonlySet<string> = new Set(['sh', 'bash', 'ash', 'dash']);

/** The script of `sh -c SCRIPT`, also with `-e` and the like before or in it; undefined if there is none. */
export function scriptOf(args: readonly string[]): Script | undefined {
  const index = args.findIndex((arg) => /^-[a-z]*c$/.test(arg));
  const text = index < 0 ? undefined : args[index + 1];
  if (text === undefined) return undefined;
  const letters = args.slice(0, index + 1).join('');
  return { text, stopAtFailure: letters.includes('e') };
}

/** The exit code of something that may end with `exit`. */
export async function exitOf(run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (thrown) {
    if (thrown instanceof ShellExit) return thrown.exitCode;
    throw thrown;
  }
}

function exitCodeOf(text: string | undefined, status: number): number {
  if (text === undefined) return status;
  if (!/^[0-9]{1,9}$/.test(text)) throw CommandFailure.usage(`exit code "${text}" is no number`);
  return Number(text) & 255;
}
