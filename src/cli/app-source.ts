import { open, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { quoted } from '../app/manifest-key.ts';
import { parseImageName } from '../app/oci-name.ts';
import { ShimError } from '../error.ts';
import type { Flag, ParsedArguments } from './arguments.ts';

/** An app that the command line was pointed at; paths are absolute. */
export type AppSource =
  | { readonly kind: 'manifest'; readonly path: string }
  /** A single WebAssembly file, to be served on every route. */
  | { readonly kind: 'wasm'; readonly path: string }
  /** A folder in OCI image layout. */
  | { readonly kind: 'layout'; readonly path: string }
  | { readonly kind: 'registry'; readonly reference: string };

export const manifestName = 'spin.toml';

/** Flags that say where the app is. */
export const sourceFlags = {
  from: {
    name: 'from',
    short: 'f',
    value: 'APP',
    summary: `folder with a ${manifestName}, manifest, .wasm file, OCI layout, or registry reference; default ./${manifestName}, searched upward`,
  },
  fromFile: {
    name: 'from-file',
    value: 'PATH',
    summary: 'as --from, but never a registry reference',
  },
  fromRegistry: {
    name: 'from-registry',
    value: 'REF',
    summary: 'as --from, but always a registry reference',
  },
} as const satisfies Record<string, Flag>;

/** Plain HTTP; this machine's own registries are spoken to in plain HTTP anyway. */
export const insecureFlag: Flag = {
  name: 'insecure',
  short: 'k',
  summary: 'plain HTTP to registries on other machines',
};

/** Reads what says where the app is: a flag, or `operand` as `--from`. Throws `invalid-argument`, `not-found`. */
export async function findAppSource(
  args: ParsedArguments,
  cwd: string,
  operand?: string,
): Promise<AppSource> {
  const given = Object.values(sourceFlags).filter((flag) => args.value(flag) !== undefined);
  const [flag, second] = given;
  if (operand !== undefined) {
    if (flag === undefined) return (await onDisk(operand, cwd)) ?? fromReference(operand, cwd);
    throw new ShimError(
      'invalid-argument',
      `${quoted(operand)} and --${flag.name} both name an app: give one of them`,
    );
  }
  if (flag === undefined) return { kind: 'manifest', path: await searchUpward(cwd) };
  if (second !== undefined) {
    throw new ShimError(
      'invalid-argument',
      `--${flag.name} and --${second.name} are both given: give one of them`,
    );
  }
  const text = args.value(flag) ?? '';
  switch (flag.name) {
    case 'from':
      return (await onDisk(text, cwd)) ?? fromReference(text, cwd);
    case 'from-file': {
      const source = await onDisk(text, cwd);
      if (source !== undefined) return source;
      throw missingPath(text, cwd);
    }
    case 'from-registry':
      parseImageName(text);
      return { kind: 'registry', reference: text };
    default:
      return flag satisfies never;
  }
}

async function searchUpward(cwd: string): Promise<string> {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const path = join(folder, manifestName);
    if (await isFile(path)) return path;
    if (folder === dirname(folder)) break;
  }
  throw new ShimError(
    'not-found',
    `no "${manifestName}" in "${cwd}" or above it: go to the app's folder or name the app with --from`,
  );
}

/** What a path on this machine is; undefined when nothing is there. */
async function onDisk(text: string, cwd: string): Promise<AppSource | undefined> {
  const path = resolve(cwd, text);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  if (!found.isDirectory()) return { kind: (await isWasm(path)) ? 'wasm' : 'manifest', path };
  if (await isFile(join(path, manifestName))) return { kind: 'manifest', path: join(path, manifestName) };
  if (await isFile(join(path, 'oci-layout'))) return { kind: 'layout', path };
  throw new ShimError(
    'not-found',
    `folder "${path}" has neither a "${manifestName}" nor an "oci-layout": name an app's folder`,
  );
}

function fromReference(text: string, cwd: string): AppSource {
  if (/^(?:\.{0,2}\/|\.{1,2}$)|\.(?:toml|wasm|wat)$/.test(text)) throw missingPath(text, cwd);
  try {
    parseImageName(text);
  } catch (cause) {
    throw new ShimError(
      'invalid-argument',
      `${quoted(text)} is no path in "${cwd}" and no registry reference: ${ShimError.from(cause).message}`,
      { cause },
    );
  }
  return { kind: 'registry', reference: text };
}

function missingPath(text: string, cwd: string): ShimError {
  return new ShimError(
    'not-found',
    `"${resolve(cwd, text)}" does not exist: name an app's folder or ${manifestName}`,
  );
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true;
}

/** By name, or by the four bytes every binary begins with. */
async function isWasm(path: string): Promise<boolean> {
  if (/\.(?:wasm|wat)$/.test(path)) return true;
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return bytesRead === 4 && buffer.toString('latin1') === '\0asm';
}
