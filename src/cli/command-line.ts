import { nearestKey, quoted } from '../app/manifest-key.ts';
import { findInstallation } from '../engine/installation.ts';
import { ShimError } from '../error.ts';
import { parseArguments } from './arguments.ts';
import type { Command, CommandContext } from './command.ts';
import { commandHelp, helpFlag, programHelp, programName, versionFlag } from './help.ts';
import { pullCommand } from './pull-command.ts';
import { pushCommand } from './push-command.ts';
import { upCommand } from './up-command.ts';

const commands: readonly Command[] = [upCommand, pushCommand, pullCommand];

/**
 * Runs the command line and gives its exit code. Whatever fails becomes one line `error: …` on standard error and the
 * exit code that the error's code stands for.
 */
export async function runCommandLine(args: readonly string[], context: CommandContext): Promise<number> {
  try {
    return await dispatch(args, context);
  } catch (thrown) {
    const error = ShimError.from(thrown);
    context.err(`error: ${oneLine(error.message)}`);
    return error.meaning.exitCode;
  }
}

async function dispatch(args: readonly string[], context: CommandContext): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) {
    context.err(...programHelp(commands));
    return new ShimError('invalid-argument', 'no command').meaning.exitCode;
  }
  if (name.startsWith('-')) {
    const top = parseArguments(args, [helpFlag, versionFlag], programName, context.env);
    context.out(...(top.isSet(versionFlag) ? [versionLine()] : programHelp(commands)));
    return 0;
  }
  if (name === 'version') {
    context.out(versionLine());
    return 0;
  }
  if (name === 'help') {
    const [topic] = rest;
    context.out(...(topic === undefined ? programHelp(commands) : commandHelp(findCommand(topic))));
    return 0;
  }
  const command = findCommand(name);
  const title = `${programName} ${name}`;
  const parsed = parseArguments(rest, [...command.flags, helpFlag], title, context.env);
  if (parsed.isSet(helpFlag)) {
    context.out(...commandHelp(command));
    return 0;
  }
  checkPositionals(command, parsed.positionals, title);
  return command.run(parsed, context);
}

function versionLine(): string {
  return `${programName} ${findInstallation().version} (Node ${process.versions.node}, ${process.platform}-${process.arch})`;
}

function findCommand(name: string): Command {
  const found = commands.find((command) => command.name === name);
  if (found !== undefined) return found;
  const nearest = nearestKey(
    name,
    commands.map((command) => command.name),
  );
  const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
  throw new ShimError(
    'invalid-argument',
    `unknown command ${quoted(name)}${hint} (see "${programName} --help")`,
  );
}

function checkPositionals(command: Command, given: readonly string[], title: string): void {
  const missing = command.positionals[given.length];
  if (missing !== undefined) {
    throw new ShimError('invalid-argument', `"${title}" needs ${missing} (see "${title} --help")`);
  }
  const extra = given[command.positionals.length + (command.optionalPositional === undefined ? 0 : 1)];
  if (extra !== undefined) {
    throw new ShimError('invalid-argument', `unexpected argument ${quoted(extra)} (see "${title} --help")`);
  }
}

/** A message on one line: it may quote what an image or a registry wrote. */
function oneLine(message: string): string {
  return message.replaceAll(/\p{Cc}+/gu, ' ').trim();
}
