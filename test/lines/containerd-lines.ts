import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { releaseOf } from '../support/containerd-config.ts';
import { findTool, testCache } from './client-tools.ts';

/** One release line of containerd, at the patch release it is tested with. */
export type ContainerdLine = {
  /** For example `2.3`. */
  readonly line: string;
  /** Go module and version, verified by Go's checksum database when it is downloaded. */
  readonly module: string;
  readonly version: string;
};

/** The lines that are built; Debian's 1.6 comes from its package. */
export const containerdLines: readonly ContainerdLine[] = [
  { line: '1.7', module: 'github.com/containerd/containerd', version: 'v1.7.35' },
  { line: '2.0', module: 'github.com/containerd/containerd/v2', version: 'v2.0.14' },
  { line: '2.2', module: 'github.com/containerd/containerd/v2', version: 'v2.2.9' },
  { line: '2.3', module: 'github.com/containerd/containerd/v2', version: 'v2.3.7' },
  { line: '2.4', module: 'github.com/containerd/containerd/v2', version: 'v2.4.2' },
];

/** The programs of a line: the daemon, its client, and the shim that Linux containers are handed to. */
export const programs = ['containerd', 'ctr', 'containerd-shim-runc-v2'] as const;

/** `$XDG_CACHE_HOME/spinshim-test/containerd/VERSION/bin`: outside the checkout, kept over builds. */
export function binFolder({ version }: ContainerdLine): string {
  return join(testCache(), 'containerd', version, 'bin');
}

/** True when every program of the line is there; they appear together. */
export function isBuilt(line: ContainerdLine): boolean {
  return programs.every((name) => existsSync(join(binFolder(line), name)));
}

/** A PATH with the programs of a line first, and the `runc` that was built for the lines. */
export function pathWith(folder: string, path: string): string {
  const runc = findTool('runc');
  return [folder, ...(runc === undefined ? [] : [dirname(runc)]), path].join(':');
}

const ownPath = process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Puts the programs of a line first on this process's PATH, where a private containerd finds them; for the line of the
 * PATH itself nothing is put there. Throws for a line that is not known, or that `build.ts` has not built.
 */
export function useLine(name: string): void {
  process.env.PATH = ownPath;
  const line = containerdLines.find((candidate) => candidate.line === name);
  if (line !== undefined && isBuilt(line)) process.env.PATH = pathWith(binFolder(line), ownPath);
  else if (name !== pathLine()) {
    const known = containerdLines.map((candidate) => candidate.line).join(', ');
    throw new Error(`containerd ${name} is not there: "node test/lines/build.ts" builds ${known}`);
  }
}

/** Line of the containerd on the PATH, undefined when there is none. */
export function pathLine(): string | undefined {
  try {
    const { major, minor } = releaseOf();
    return `${major}.${minor}`;
  } catch {
    return undefined;
  }
}

/** Every line that is there: that of the PATH and those that are built. */
export function presentLines(): string[] {
  const own = pathLine();
  const built = containerdLines.filter((line) => isBuilt(line)).map(({ line }) => line);
  return [...new Set([...(own === undefined ? [] : [own]), ...built])];
}
