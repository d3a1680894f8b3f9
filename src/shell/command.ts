import type { AppAccess } from './app-access.ts';
import type { EngineAccess } from './engine-access.ts';
import type { Input, Output } from './streams.ts';

/** What one command may use. */
export type CommandContext = {
  /** Without the name. */
  readonly args: readonly string[];
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Aborts at Ctrl-C and at the end of the shell. */
  readonly signal: AbortSignal;
  readonly variables: Map<string, string>;
  readonly app: AppAccess;
  readonly engine: EngineAccess;
  readonly terminal: boolean;
  /** The terminal as it is, for what only a terminal understands; undefined when stdout is none. */
  readonly screen: Output | undefined;
};

/** A command of the shell. A failure of its own is thrown as `CommandFailure` and told on stderr, behind its name. */
export type Command = {
  /** Its arguments as help shows them. */
  readonly usage: string;
  readonly summary: string;
  run(context: CommandContext): Promise<number>;
};

/** Exit code of a command that was called wrongly. */
const usageExitCode = 2;

/** A command could not do what it was asked for. */
export class CommandFailure extends Error {
  override readonly name: string = 'CommandFailure';
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }

  /** It was called wrongly. */
  static usage(message: string): CommandFailure {
    return new CommandFailure(message, usageExitCode);
  }
}

/** What is left of `args` when options are taken out, and the options: each of `withValue` has the argument behind it. */
export function takeOptions(
  args: readonly string[],
  flags: readonly string[],
  withValue: readonly string[] = [],
): { readonly rest: readonly string[]; readonly options: ReadonlyMap<string, readonly string[]> } {
  const rest: string[] = [];
  const options = new Map<string, string[]>();
  const add = (name: string, value: string): void => {
    options.set(name, [...(options.get(name) ?? []), value]);
  };
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    if (arg === '--') return { rest: [...rest, ...args.slice(index + 1)], options };
    if (!arg.startsWith('-') || arg === '-') {
      rest.push(arg);
      continue;
    }
    const equals = arg.indexOf('=');
    const name = arg.startsWith('--') && equals > 0 ? arg.slice(0, equals) : arg;
    if (withValue.includes(name)) {
      const value = name === arg ? args[++index] : arg.slice(equals + 1);
      if (value === undefined) throw CommandFailure.usage(`option "${name}" needs a value`);
      add(name, value);
    } else if (flags.includes(arg)) add(arg, '');
    else {
      const letters = shortOptions(arg, flags, withValue, args[index + 1]);
      if (letters === undefined) throw CommandFailure.usage(`option "${arg}" is not known here`);
      for (const [letter, value] of letters.options) add(letter, value);
      if (letters.tookNext) index += 1;
    }
  }
  return { rest, options };
}

/** `-fsS`, `-m5`, `-fm 5`: letters in one word. Undefined if one of them is not known. */
function shortOptions(
  arg: string,
  flags: readonly string[],
  withValue: readonly string[],
  next: string | undefined,
): { readonly options: readonly (readonly [string, string])[]; readonly tookNext: boolean } | undefined {
  if (arg.startsWith('--')) return undefined;
  const options: (readonly [string, string])[] = [];
  for (let index = 1; index < arg.length; index++) {
    const letter = `-${arg[index]}`;
    if (flags.includes(letter)) options.push([letter, '']);
    else if (withValue.includes(letter)) {
      const value = arg.slice(index + 1);
      if (value !== '') return { options: [...options, [letter, value]], tookNext: false };
      if (next === undefined) throw CommandFailure.usage(`option "${letter}" needs a value`);
      return { options: [...options, [letter, next]], tookNext: true };
    } else return undefined;
  }
  return { options, tookNext: false };
}

/** Columns padded to the widest of each, one line a row. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return rows.map((row) => `${line(row)}\n`).join('');
}
