import { type Command, CommandFailure, takeOptions } from '../command.ts';
import { type Input, linesOf } from '../streams.ts';

/** Lines that `tail` keeps. */
const maxTailLines = 10_000;

/** Small filters for the end of a pipe. They read their input only; `grep` looks for a text, not for a pattern. */
export const filterCommands: ReadonlyMap<string, Command> = new Map<string, Command>([
  [
    'grep',
    {
      usage: '[-v] [-i] [-c] [-q] TEXT',
      summary: 'lines of the input with a text in them (no pattern)',
      run: async ({ args, stdin, stdout }) => {
        const { rest, options } = takeOptions(args, ['-v', '-i', '-c', '-q', '-F']);
        const [text, ...more] = rest;
        if (text === undefined || more.length > 0)
          throw CommandFailure.usage('one text to look for was expected');
        const fold = (line: string): string => (options.has('-i') ? line.toLowerCase() : line);
        const wanted = fold(text);
        let count = 0;
        for await (const line of linesOf(stdin)) {
          if (fold(line).includes(wanted) === options.has('-v')) continue;
          count += 1;
          if (options.has('-q')) return 0;
          if (!options.has('-c')) await stdout.write(`${line}\n`);
        }
        if (options.has('-c')) await stdout.write(`${count}\n`);
        return count > 0 ? 0 : 1;
      },
    },
  ],
  [
    'head',
    {
      usage: '[-n LINES]',
      summary: 'the first lines of the input',
      run: async ({ args, stdin, stdout }) => {
        let left = lineCount(args);
        if (left === 0) return 0;
        for await (const line of linesOf(stdin)) {
          await stdout.write(`${line}\n`);
          left -= 1;
          if (left === 0) return 0;
        }
        return 0;
      },
    },
  ],
  [
    'tail',
    {
      usage: '[-n LINES]',
      summary: 'the last lines of the input',
      run: async ({ args, stdin, stdout }) => {
        const count = lineCount(args);
        if (count > maxTailLines) throw CommandFailure.usage(`at most ${maxTailLines} lines are kept`);
        const kept: string[] = [];
        for await (const line of linesOf(stdin)) {
          kept.push(line);
          if (kept.length > count) kept.shift();
        }
        for (const line of kept) await stdout.write(`${line}\n`);
        return 0;
      },
    },
  ],
  [
    'wc',
    {
      usage: '[-l] [-c]',
      summary: 'count the lines and bytes of the input',
      run: async ({ args, stdin, stdout }) => {
        const { options } = takeOptions(args, ['-l', '-c']);
        const { lines, bytes } = await countOf(stdin);
        const shown = options.has('-l') ? [lines] : options.has('-c') ? [bytes] : [lines, bytes];
        await stdout.write(`${shown.join(' ')}\n`);
        return 0;
      },
    },
  ],
]);

/** `-n 5` or `-5`, else ten. */
function lineCount(args: readonly string[]): number {
  const [first, second] = args;
  const text = first === undefined ? '10' : first === '-n' ? (second ?? '') : first.replace(/^-n?/, '');
  if (!/^[0-9]{1,9}$/.test(text)) throw CommandFailure.usage(`a number of lines was expected, not "${text}"`);
  return Number(text);
}

async function countOf(input: Input): Promise<{ readonly lines: number; readonly bytes: number }> {
  let [lines, bytes] = [0, 0];
  for await (const chunk of input) {
    bytes += chunk.length;
    for (const byte of chunk) if (byte === 0x0a) lines += 1;
  }
  return { lines, bytes };
}
