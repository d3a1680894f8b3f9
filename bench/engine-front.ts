import { readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

type EngineFront = typeof import('./engine-probe.ts');

const shipped = join(import.meta.dirname, '..', 'dist', 'lib', 'spinshim');

/**
 * The engine's front as a module that starts the bundled engines and preparers, which is what a node runs. The front
 * finds those beside itself, so it is bundled into a folder with links to what `make build` made.
 */
export async function loadEngineFront(folder: string): Promise<EngineFront> {
  for (const name of await readdir(shipped)) await symlink(join(shipped, name), join(folder, name));
  const outfile = join(folder, 'engine-probe.mjs');
  const entry = join(import.meta.dirname, 'engine-probe.ts');
  await build({
    entryPoints: [entry],
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    outfile,
    logLevel: 'warning',
  });
  return import(outfile) as Promise<EngineFront>;
}
