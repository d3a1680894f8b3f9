import { resolve } from 'node:path';
import type { ImageShape } from '../app/image-shape.ts';
import { quoted } from '../app/manifest-key.ts';
import { formatImageName, parseImageName } from '../app/oci-name.ts';
import { pushApp, writeLayout } from '../app/push.ts';
import { withLockedFolder } from '../app/push-folder.ts';
import { ShimError } from '../error.ts';
import { findAppSource, insecureFlag, sourceFlags } from './app-source.ts';
import type { Flag, ParsedArguments } from './arguments.ts';
import { parseAssignment } from './assignment.ts';
import type { Command, CommandContext } from './command.ts';
import { writeWasmManifest } from './wasm-manifest.ts';
import { openWorkFolder } from './work-folder.ts';

const flags = {
  from: {
    ...sourceFlags.from,
    summary: 'folder with a spin.toml, manifest, or .wasm file; default ./spin.toml, searched upward',
  },
  shape: {
    name: 'shape',
    value: 'SHAPE',
    summary: '"spin" (as "spin registry push" makes it; default) or "universal" (for containerd 1.6 too)',
  },
  insecure: insecureFlag,
  annotation: {
    name: 'annotation',
    value: 'NAME=VALUE',
    repeatable: true,
    summary: 'annotation of the image',
  },
  toLayout: {
    name: 'to-layout',
    value: 'DIR',
    summary: 'write the image into a folder in OCI layout, not to a registry',
  },
} as const satisfies Record<string, Flag>;

/** `spinshim push`: makes an image of an app. */
export const pushCommand: Command = {
  name: 'push',
  summary: 'push an app to a registry, or write it as an OCI layout',
  positionals: ['REF'],
  flags: Object.values(flags),
  notes: ['Credentials come from the files of "spin registry login" and "docker login".'],
  run: push,
};

async function push(args: ParsedArguments, context: CommandContext): Promise<number> {
  const { cwd } = context;
  const name = parseImageName(args.positionals[0] ?? '');
  const options = {
    shape: parseShape(args.value(flags.shape) ?? 'spin'),
    annotations: new Map(args.values(flags.annotation).map((text) => parseAssignment(text, 'annotation'))),
  };
  const layout = args.value(flags.toLayout);
  const source = await findAppSource(args, cwd);
  if (source.kind !== 'manifest' && source.kind !== 'wasm') {
    throw new ShimError(
      'invalid-argument',
      '--from is an image already: name the folder or manifest of an app, or copy the image with "spinshim pull"',
    );
  }
  const work = await openWorkFolder(undefined, cwd);
  try {
    const manifest = source.kind === 'wasm' ? await writeWasmManifest(source.path, work.path) : source.path;
    const { digest } = await withLockedFolder(manifest, (app) =>
      layout === undefined
        ? pushApp(app, formatImageName(name), { ...options, insecure: args.isSet(flags.insecure) })
        : writeLayout(app, resolve(cwd, layout), formatImageName(name), options),
    );
    context.out(`${layout === undefined ? 'Pushed' : 'Written'} with digest ${digest}`);
    return 0;
  } finally {
    await work.dispose();
  }
}

function parseShape(text: string): ImageShape {
  if (text === 'spin' || text === 'universal') return text;
  throw new ShimError('invalid-argument', `--shape is ${quoted(text)}: give "spin" or "universal"`);
}
