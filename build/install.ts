/**
 * `install.ts install PREFIX` and `install.ts uninstall PREFIX`. Pods may be running from an earlier installation: the
 * new files lie in a folder of their own, named by version and content, and `lib/spinshim` is a link that is switched
 * in one step. Folders of earlier installations stay while processes run from them.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';

const dist = join(import.meta.dirname, '..', 'dist');
const programs = ['containerd-shim-spin-v2', 'spinshim'];
const linkName = 'spinshim';
const folderName = /^spinshim-\d[\w.+-]*-[0-9a-f]{12}$/;

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

/**
 * The folder's name says what is in it, so that installing the same build again changes nothing; not what V8 made of it,
 * which two builds of the same source do not have byte for byte.
 */
function nameOf(source: string, files: readonly string[]): string {
  const hash = createHash('sha256');
  const named = files.filter((file) => !file.endsWith('.js.v8'));
  for (const file of named) hash.update(`${file}\0`).update(readFileSync(join(source, file)));
  const { version } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8')) as { version: string };
  return `spinshim-${version}-${hash.digest('hex').slice(0, 12)}`;
}

/** Copies a file beside its place and moves it there in one step. The caller's umask does not count. */
function place(source: string, destination: string, mode: number): void {
  const draft = join(dirname(destination), `.${basename(destination)}.${process.pid}`);
  copyFileSync(source, draft, constants.COPYFILE_FICLONE);
  chmodSync(draft, mode);
  renameSync(draft, destination);
}

function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
  chmodSync(path, 0o755);
}

function placeFolder(source: string, files: readonly string[], destination: string): void {
  if (existsSync(destination)) return;
  const draft = `${destination}.${process.pid}`;
  try {
    for (const file of files) {
      makeFolder(dirname(join(draft, file)));
      place(join(source, file), join(draft, file), file === 'node' ? 0o755 : 0o644);
    }
    renameSync(draft, destination);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

function switchLink(link: string, target: string): void {
  const kind = lstatSync(link, { throwIfNoEntry: false });
  if (kind !== undefined && !kind.isSymbolicLink())
    throw new Error(`"${link}" is not a link that an installation made: move it away first`);
  const draft = `${link}.${process.pid}`;
  symlinkSync(target, draft);
  renameSync(draft, link);
}

/** Processes of this machine that run the Node of a folder; one that is not ours to look at counts as none. */
function usersOf(folder: string): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readlinkSync(`/proc/${pid}/exe`).startsWith(`${folder}/`);
    } catch {
      return false;
    }
  });
}

function installedFolders(lib: string): readonly string[] {
  return existsSync(lib) ? readdirSync(lib).filter((name) => folderName.test(name)) : [];
}

function install(prefix: string): void {
  const source = join(dist, 'lib', 'spinshim');
  const missing = [source, ...programs.map((name) => join(dist, 'bin', name))].find(
    (path) => !existsSync(path),
  );
  if (missing !== undefined) throw new Error(`no "${missing}": run "make build" first`);
  const bin = join(prefix, 'bin');
  const lib = join(prefix, 'lib');
  makeFolder(bin);
  makeFolder(lib);
  const files = filesBelow(source);
  const name = nameOf(source, files);
  placeFolder(source, files, join(lib, name));
  switchLink(join(lib, linkName), name);
  for (const program of programs) place(join(dist, 'bin', program), join(bin, program), 0o755);
  for (const old of installedFolders(lib).filter((folder) => folder !== name)) {
    const users = usersOf(join(lib, old));
    if (users.length === 0) rmSync(join(lib, old), { recursive: true });
    else process.stdout.write(`kept ${join(lib, old)}: ${users.length} processes run from it\n`);
  }
  process.stdout.write(`installed ${programs.map((program) => join(bin, program)).join(' and ')}\n`);
}

function uninstall(prefix: string): void {
  const lib = join(prefix, 'lib');
  for (const program of programs) rmSync(join(prefix, 'bin', program), { force: true });
  const link = join(lib, linkName);
  if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink() === true) rmSync(link);
  for (const name of installedFolders(lib)) {
    const users = usersOf(join(lib, name));
    if (users.length > 0)
      process.stderr.write(`warning: ${users.length} processes still run from ${join(lib, name)}\n`);
    rmSync(join(lib, name), { recursive: true });
  }
  process.stdout.write(`uninstalled from ${prefix}\n`);
}

const [action, prefix] = process.argv.slice(2);
try {
  if (prefix === undefined || prefix === '')
    throw new Error('no prefix: give one, such as PREFIX=/usr/local');
  if (action === 'install') install(resolve(prefix));
  else if (action === 'uninstall') uninstall(resolve(prefix));
  else throw new Error(`unknown action "${action}"`);
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
