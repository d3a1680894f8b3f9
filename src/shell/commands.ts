import { type Command, CommandFailure, table } from './command.ts';
import { appCommands } from './commands/app.ts';
import { basicCommands } from './commands/basics.ts';
import { bracketCommand, testCommand } from './commands/condition.ts';
import { curlCommand } from './commands/curl.ts';
import { filterCommands } from './commands/filters.ts';
import { keyValueCommand } from './commands/key-value.ts';
import { wgetCommand } from './commands/wget.ts';
import { workerCommands } from './commands/workers.ts';

/** What debuggers and hooks call in containers that have programs, and what to do here. */
const absent: ReadonlyMap<string, string> = new Map([
  [
    'tar',
    'there is no tar, so "kubectl cp" cannot work: a Spin container has no file system of its own; use "cat"',
  ],
  ['vi', 'there is no editor: files of a Spin app are read-only'],
]);

/** Named in help and completion: what the interpreter itself does. */
const builtIn: readonly (readonly [string, string, string])[] = [
  ['sh', '-c SCRIPT', 'run a script: ; && || | $NAME $? and > /dev/null'],
  ['exit', '[CODE]', 'end the shell'],
];

const helpCommand: Command = {
  usage: '[COMMAND]',
  summary: 'what there is',
  run: async ({ args, stdout }) => {
    const [name] = args;
    if (name === undefined) {
      await stdout.write(
        'The debug shell of a Spin container. No guest code runs here; the app keeps running.\n\n',
      );
      await stdout.write(table(rows().map(([command, , summary]) => [`  ${command}`, summary])));
      await stdout.write('\n"help COMMAND" shows its arguments.\n');
      return 0;
    }
    const row = rows().find(([command]) => command === name);
    if (row === undefined) throw new CommandFailure(`"${name}" is no command; "help" lists them`);
    await stdout.write(`${row[0]} ${row[1]}\n  ${row[2]}\n`);
    return 0;
  },
};

const sqlCommand: Command = {
  usage: '',
  summary: 'not in this version: it has no sqlite host',
  run: async () => {
    throw new CommandFailure('there is no sqlite host in this version');
  },
};

const commands: ReadonlyMap<string, Command> = new Map([
  ['help', helpCommand],
  ...appCommands,
  ['kv', keyValueCommand],
  ['sql', sqlCommand],
  ['curl', curlCommand],
  ['wget', wgetCommand],
  ...workerCommands,
  ...basicCommands,
  ['test', testCommand],
  ['[', bracketCommand],
  ...filterCommands,
]);

function rows(): readonly (readonly [name: string, usage: string, summary: string])[] {
  return [...[...commands].map(([name, { usage, summary }]) => [name, usage, summary] as const), ...builtIn];
}

/** The names that can be typed, for completion. */
export const commandNames: readonly string[] = rows()
  .map(([name]) => name)
  .toSorted();

/** A command by its name; `printenv` is `env`. */
export function findCommand(name: string): Command | undefined {
  return commands.get(name === 'printenv' ? 'env' : name);
}

/** The one line that a name gets which is no command. */
export function unknownCommand(name: string): string {
  const known = absent.get(name);
  if (known !== undefined) return `${name}: ${known}`;
  return `${name}: not found; this Spin container has no programs, only a debug shell with: ${commandNames.join(' ')}`;
}
