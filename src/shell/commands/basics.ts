import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, CommandFailure } from '../command.ts';

/** `echo`, `true`, `false`, `sleep` and their like: what hooks and probes are made of. */
export const basicCommands: ReadonlyMap<string, Command> = new Map<string, Command>([
  [
    'echo',
    {
      usage: '[-n] WORD…',
      summary: 'print words',
      run: async ({ args, stdout }) => {
        const bare = args[0] === '-n';
        await stdout.write(`${(bare ? args.slice(1) : args).join(' ')}${bare ? '' : '\n'}`);
        return 0;
      },
    },
  ],
  ['true', { usage: '', summary: 'end with 0', run: async () => 0 }],
  [':', { usage: '', summary: 'end with 0', run: async () => 0 }],
  ['false', { usage: '', summary: 'end with 1', run: async () => 1 }],
  [
    'sleep',
    {
      usage: 'SECONDS',
      summary: 'wait; also 500ms, 2m, 1h',
      run: async ({ args, signal }) => {
        await sleep(durationMs(args[0]), undefined, { signal });
        return 0;
      },
    },
  ],
  [
    'export',
    {
      usage: 'NAME=VALUE…',
      summary: 'set variables of this shell',
      run: async ({ args, variables }) => {
        for (const arg of args) {
          const equals = arg.indexOf('=');
          if (equals > 0) variables.set(arg.slice(0, equals), arg.slice(equals + 1));
        }
        return 0;
      },
    },
  ],
]);

/** Longest time that a command waits, milliseconds: a week, well within what a timer takes. */
const maxDurationMs = 7 * 24 * 3_600_000;

const units: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['', 1_000],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** A duration such as `5`, `0.5s`, `200ms`, `2m` in milliseconds. Throws a usage failure. */
export function durationMs(text: string | undefined): number {
  const match = /^([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|)$/.exec(text ?? '');
  const milliseconds = Number(match?.[1]) * (units.get(match?.[2] ?? '') ?? Number.NaN);
  if (match === null || milliseconds > maxDurationMs) {
    throw CommandFailure.usage(`a duration such as 5, 0.5s or 200ms was expected, not "${text ?? ''}"`);
  }
  return milliseconds;
}
