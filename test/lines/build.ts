/**
 * Builds containerd of every line in `containerd-lines.ts`, or of those named on the command line (`build.ts 1.7 2.3`),
 * from the Go module proxy into a cache outside the checkout. A line that is built is left alone. Needs Go; without it
 * nothing is built and that is said. Ends with 1 when a line cannot be built.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { setPriority } from 'node:os';
import { dirname } from 'node:path';
import { binFolder, type ContainerdLine, containerdLines, isBuilt, programs } from './containerd-lines.ts';

/** Packages compiled at once. */
const parallelism = 2;
/** What needs C headers and no test here. */
const tags = 'no_btrfs,no_devmapper,no_zfs,no_aufs';
/** Lower than whatever else runs on the machine. */
const niceness = 15;

function goVersion(): string | undefined {
  const { stdout, status } = spawnSync('go', ['version'], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

/** Folder of the module's sources in Go's module cache; read-only, which is enough to build from. */
function downloadModule({ module, version }: ContainerdLine): string {
  const answer = execFileSync('go', ['mod', 'download', '-json', `${module}@${version}`], {
    encoding: 'utf8',
  });
  return (JSON.parse(answer) as { readonly Dir: string }).Dir;
}

function build(line: ContainerdLine): void {
  const target = binFolder(line);
  const draft = `${target}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    const named = `-s -w -X ${line.module}/version.Version=${line.version}`;
    const packages = programs.map((name) => `./cmd/${name}`);
    const options = ['-p', String(parallelism), '-trimpath', '-tags', tags, '-ldflags', named];
    execFileSync('go', ['build', ...options, '-o', `${draft}/`, ...packages], {
      cwd: downloadModule(line),
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' },
      stdio: 'inherit',
    });
    rmSync(target, { recursive: true, force: true });
    mkdirSync(dirname(target), { recursive: true });
    renameSync(draft, target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !containerdLines.some(({ line }) => line === name));
if (unknown.length > 0) {
  const known = containerdLines.map(({ line }) => line).join(', ');
  throw new Error(`no containerd line "${unknown.join('", "')}": the lines are ${known}`);
}
const missing = containerdLines.filter(
  (line) => (wanted.length === 0 || wanted.includes(line.line)) && !isBuilt(line),
);
const go = missing.length === 0 ? 'not needed' : goVersion();
setPriority(niceness);
if (go === undefined) {
  const names = missing.map(({ line }) => line).join(', ');
  console.error(
    `NOT BUILT: containerd ${names}. There is no "go" on the PATH; these lines will not be tested.`,
  );
} else {
  for (const line of missing) {
    console.error(`building containerd ${line.version} (${go}) into ${binFolder(line)}`);
    try {
      build(line);
    } catch (error) {
      process.exitCode = 1;
      console.error(
        `NOT BUILT: containerd ${line.version}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
}
for (const line of containerdLines) {
  console.log(`${line.line}\t${isBuilt(line) ? binFolder(line) : 'not built'}`);
}
