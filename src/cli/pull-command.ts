import { resolve } from 'node:path';
import { quoted } from '../app/manifest-key.ts';
import { pullToLayout } from '../app/pull.ts';
import { ShimError } from '../error.ts';
import { insecureFlag } from './app-source.ts';
import type { Flag, ParsedArguments } from './arguments.ts';
import type { Command, CommandContext } from './command.ts';

const flags = {
  output: { name: 'output', short: 'o', value: 'DIR', summary: 'the folder; other images in it stay' },
  platform: {
    name: 'platform',
    value: 'WHICH',
    summary: '"all" (default) or "host", only the image for this machine',
  },
  insecure: insecureFlag,
} as const satisfies Record<string, Flag>;

/** `spinshim pull`: copies an image to this machine. */
export const pullCommand: Command = {
  name: 'pull',
  summary: 'copy an image from a registry into a folder in OCI layout',
  positionals: ['REF'],
  flags: Object.values(flags),
  notes: ['Credentials come from the files of "spin registry login" and "docker login".'],
  run: pull,
};

async function pull(args: ParsedArguments, context: CommandContext): Promise<number> {
  const output = args.value(flags.output);
  if (output === undefined) {
    throw new ShimError('invalid-argument', '"spinshim pull" needs a folder: add --output DIR');
  }
  const { digest } = await pullToLayout(args.positionals[0] ?? '', resolve(context.cwd, output), {
    platforms: parsePlatform(args.value(flags.platform) ?? 'all'),
    insecure: args.isSet(flags.insecure),
  });
  context.out(`Pulled with digest ${digest}`);
  return 0;
}

function parsePlatform(text: string): 'all' | 'host' {
  if (text === 'all' || text === 'host') return text;
  throw new ShimError('invalid-argument', `--platform is ${quoted(text)}: give "all" or "host"`);
}
