import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { manifestName } from './app-source.ts';

/** The manifest of an app that is one WebAssembly file and answers every route. `path` is absolute. */
export function wasmManifest(path: string): string {
  const name = basename(path).replace(/\.[^.]*$/, '') || 'app';
  return [
    'spin_manifest_version = 2',
    '[application]',
    `name = ${tomlString(name)}`,
    '[[trigger.http]]',
    'route = "/..."',
    'component = "app"',
    '[component.app]',
    `source = ${tomlString(path)}`,
    '',
  ].join('\n');
}

/** Writes that manifest into a folder of ours and gives its path. */
export async function writeWasmManifest(path: string, folder: string): Promise<string> {
  const manifest = join(folder, manifestName);
  await writeFile(manifest, wasmManifest(path));
  return manifest;
}

/** A TOML basic string: JSON's escapes are a subset of TOML's, which also wants DEL escaped. */
function tomlString(text: string): string {
  return JSON.stringify(text).replaceAll('\u007f', '\\u007f');
}
