import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

type Lockfile = {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly devOptional?: boolean }>>;
};

/** Folders and files of the checkout that tests need; `fixtures` without its toolchain. */
const parts = [
  'bin',
  'build',
  'deploy',
  'dist',
  'proto',
  'shim-binary',
  'src',
  'test',
  'package.json',
  'LICENSE',
];

/** Copies what the end-to-end tests need of a built checkout: sources, bundles, sample apps, packages that are no tools. */
export function copyProject(root: string, target: string): void {
  mkdirSync(target, { recursive: true });
  for (const part of parts) cpSync(join(root, part), join(target, part), { recursive: true });
  for (const name of readdirSync(join(root, 'fixtures'))) {
    if (name === 'node_modules') continue;
    cpSync(join(root, 'fixtures', name), join(target, 'fixtures', name), { recursive: true });
  }
  const lockfile = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lockfile;
  for (const [path, { dev = false, devOptional = false }] of Object.entries(lockfile.packages)) {
    // Packages of other platforms are in the lockfile and not on the disk.
    if (path === '' || dev || devOptional || !existsSync(join(root, path))) continue;
    cpSync(join(root, path), join(target, path), { recursive: true });
  }
}
