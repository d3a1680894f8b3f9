import { runCommandLine } from '../cli/command-line.ts';

/** Lines to one of our own streams; a reader that is gone is no error. */
function lineWriter(stream: NodeJS.WriteStream): (...lines: readonly string[]) => void {
  stream.on('error', () => {});
  return (...lines) => {
    if (lines.length > 0) stream.write(`${lines.join('\n')}\n`);
  };
}

const env = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
process.exitCode = await runCommandLine(process.argv.slice(2), {
  env: new Map(env),
  cwd: process.cwd(),
  out: lineWriter(process.stdout),
  err: lineWriter(process.stderr),
});
