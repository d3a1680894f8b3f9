import { parseArgs } from 'node:util';
import { nearestKey, quoted } from '../app/manifest-key.ts';
import { ShimError } from '../error.ts';

/** One flag of a command. */
export type Flag = {
  /** Long name, without dashes. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** What its value is called in the help text; a flag without one is a switch. */
  readonly value?: string;
  readonly repeatable?: boolean;
  /** Environment variable that gives the value when the flag does not. */
  readonly env?: string;
  readonly summary: string;
};

/** The flags that were given, and what stands between them. */
export class ParsedArguments {
  readonly positionals: readonly string[];
  readonly #values: ReadonlyMap<string, readonly string[]>;
  readonly #env: ReadonlyMap<string, string>;

  constructor(
    positionals: readonly string[],
    values: ReadonlyMap<string, readonly string[]>,
    env: ReadonlyMap<string, string>,
  ) {
    this.positionals = positionals;
    this.#values = values;
    this.#env = env;
  }

  /** Whether a switch is on. */
  isSet(flag: Flag): boolean {
    return this.#values.has(flag.name);
  }

  /** The value of a flag, else of its environment variable where that is not empty. */
  value(flag: Flag): string | undefined {
    const given = this.#values.get(flag.name)?.[0];
    if (given !== undefined || flag.env === undefined) return given;
    return this.#env.get(flag.env) || undefined;
  }

  /** The values of a repeatable flag in the order given. */
  values(flag: Flag): readonly string[] {
    return this.#values.get(flag.name) ?? [];
  }
}

/**
 * Parses `--flag value`, `--flag=value`, `-f value` and groups of one-letter switches; after `--` everything is a
 * positional. Throws `invalid-argument` for an unknown flag (naming the nearest known one), a value that is missing or
 * not wanted, and a flag given twice that is not repeatable. `command` is what the user typed before the flags.
 */
export function parseArguments(
  args: readonly string[],
  flags: readonly Flag[],
  command: string,
  env: ReadonlyMap<string, string>,
): ParsedArguments {
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      flags.map(({ name, short, value }) => [
        name,
        {
          type: value === undefined ? ('boolean' as const) : ('string' as const),
          ...(short === undefined ? {} : { short }),
        },
      ]),
    ),
    strict: false,
    tokens: true,
  });
  const positionals: string[] = [];
  const values = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const flag = flags.find(({ name }) => name === token.name);
    if (flag === undefined) throw unknownFlag(token.rawName, flags, command);
    const given = values.get(flag.name);
    if (given !== undefined && flag.repeatable !== true)
      throw badFlag(`flag "${token.rawName}" is given twice`, command);
    const text = givenValue(flag, token, command);
    values.set(flag.name, [...(given ?? []), text]);
  }
  return new ParsedArguments(positionals, values, env);
}

type OptionToken = {
  readonly rawName: string;
  readonly value?: string | undefined;
  readonly inlineValue?: boolean | undefined;
};

function givenValue(flag: Flag, token: OptionToken, command: string): string {
  if (flag.value === undefined) {
    if (token.value === undefined) return '';
    throw badFlag(`flag "${token.rawName}" takes no value, and ${quoted(token.value)} is one`, command);
  }
  const missing = token.value === undefined || (token.inlineValue !== true && /^-./.test(token.value));
  if (!missing && token.value !== undefined) return token.value;
  throw badFlag(`flag "${token.rawName}" has no value: write "${token.rawName} ${flag.value}"`, command);
}

function unknownFlag(rawName: string, flags: readonly Flag[], command: string): ShimError {
  const nearest = nearestKey(
    rawName.replace(/^-+/, ''),
    flags.map(({ name }) => name),
  );
  const hint = nearest === undefined ? '' : `; did you mean "--${nearest}"?`;
  return badFlag(`unknown flag ${quoted(rawName)}${hint}`, command);
}

function badFlag(text: string, command: string): ShimError {
  return new ShimError('invalid-argument', `${text} (see "${command} --help")`);
}
