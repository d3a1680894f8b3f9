import type { Flag, ParsedArguments } from './arguments.ts';

/** What a command knows of the process it runs in. */
export type CommandContext = {
  readonly env: ReadonlyMap<string, string>;
  /** Absolute working directory. */
  readonly cwd: string;
  /** Writes lines to standard output. */
  out(...lines: readonly string[]): void;
  /** Writes lines to standard error. */
  err(...lines: readonly string[]): void;
};

/** One command of the command line. */
export type Command = {
  readonly name: string;
  readonly summary: string;
  /** Names of its positional arguments, all required. */
  readonly positionals: readonly string[];
  /** Name of one more that may follow. */
  readonly optionalPositional?: string;
  readonly flags: readonly Flag[];
  /** Lines that follow the flags in its help text. */
  readonly notes: readonly string[];
  /** Runs it and gives the exit code; throws ShimError. */
  run(args: ParsedArguments, context: CommandContext): Promise<number>;
};
