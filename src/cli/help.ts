import type { Flag } from './arguments.ts';
import type { Command } from './command.ts';

/** Name of the program in texts. */
export const programName = 'spinshim';

export const helpFlag: Flag = { name: 'help', short: 'h', summary: 'print this text' };
export const versionFlag: Flag = { name: 'version', short: 'V', summary: 'print the version' };

/** The help text of the whole program. */
export function programHelp(commands: readonly Command[]): readonly string[] {
  return [
    'Runs Spin apps, and moves them to and from registries',
    '',
    `Usage: ${programName} COMMAND [FLAGS]`,
    '',
    'Commands:',
    ...columns([
      ...commands.map(({ name, summary }): [string, string] => [name, summary]),
      ['version', 'print the version'],
      ['help [COMMAND]', 'print the flags of a command'],
    ]),
    '',
    'Flags:',
    ...columns([helpFlag, versionFlag].map(flagRow)),
  ];
}

/** The help text of one command. */
export function commandHelp(command: Command): readonly string[] {
  const optional = command.optionalPositional === undefined ? [] : [`[${command.optionalPositional}]`];
  const words = [programName, command.name, ...command.positionals, ...optional, '[FLAGS]'];
  return [
    sentence(command.summary),
    '',
    `Usage: ${words.join(' ')}`,
    '',
    'Flags:',
    ...columns([...command.flags, helpFlag].map(flagRow)),
    ...(command.notes.length === 0 ? [] : ['', ...command.notes]),
  ];
}

function flagRow(flag: Flag): [string, string] {
  const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
  const value = flag.value === undefined ? '' : ` ${flag.value}`;
  const remarks = [
    ...(flag.repeatable === true ? ['repeatable'] : []),
    ...(flag.env === undefined ? [] : [`environment: ${flag.env}`]),
  ];
  const remark = remarks.length === 0 ? '' : ` (${remarks.join('; ')})`;
  return [`${short}--${flag.name}${value}`, `${flag.summary}${remark}`];
}

function columns(rows: readonly (readonly [string, string])[]): readonly string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}
