import { type Command, CommandFailure, takeOptions } from '../command.ts';
import { curlCommand } from './curl.ts';

/** Exit code of wget when the server answers with an error. */
const serverErrorExitCode = 8;

/** `wget` as busybox has it in probes, by way of `curl`: to the output, or to nowhere. */
export const wgetCommand: Command = {
  usage: '[-q] [-S] [--spider] [-T SECONDS] [-O - | -O /dev/null] URL',
  summary: 'the same by the name that busybox has for it',
  run: async (context) => {
    const { rest, options } = takeOptions(
      context.args,
      ['-q', '-S', '--spider', '--quiet', '--no-verbose'],
      ['-O', '-T', '--timeout', '--output-document'],
    );
    const [url, ...more] = rest;
    if (url === undefined || more.length > 0) throw CommandFailure.usage('one URL was expected');
    const output = [...(options.get('-O') ?? []), ...(options.get('--output-document') ?? [])].at(-1);
    const toNowhere = options.has('--spider') || output === '/dev/null';
    if (!toNowhere && output !== '-') {
      throw CommandFailure.usage('nothing can be written to a file here: "-O -" prints it');
    }
    const timeout = [...(options.get('-T') ?? []), ...(options.get('--timeout') ?? [])].at(-1);
    const args = [
      '-fsS',
      ...(toNowhere ? ['-o', '/dev/null'] : []),
      ...(timeout === undefined ? [] : ['-m', timeout]),
      url,
    ];
    const exitCode = await curlCommand.run({ ...context, args });
    return exitCode === 22 ? serverErrorExitCode : exitCode;
  },
};
