/**
 * Builds the clients of `client-tools.ts` and containerd of every line in `containerd-lines.ts`, or what is named on the
 * command line (`build.ts 1.7 2.3 kubelet`), from the Go module proxy into a cache outside the checkout. What is built is left
 * alone. Needs Go; without it nothing is built and that is said. Ends with 1 when something cannot be built.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { type ClientTool, clientTools, findTool, toolPath } from './client-tools.ts';
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
function downloadModule({ module, version }: Pick<ContainerdLine, 'module' | 'version'>): string {
  const answer = execFileSync('go', ['mod', 'download', '-json', `${module}@${version}`], {
    encoding: 'utf8',
  });
  return (JSON.parse(answer) as { readonly Dir: string }).Dir;
}

/** Builds one tool beside its place and moves it there. */
function buildTool(tool: ClientTool): void {
  const target = dirname(toolPath(tool));
  const draft = `${target}.${process.pid}`;
  const output = join(draft, tool.name);
  mkdirSync(draft, { recursive: true });
  try {
    const linker = ['-s -w', ...(tool.linker === undefined ? [] : [tool.linker])].join(' ');
    const common = ['-p', String(parallelism), '-trimpath', '-tags', tool.tags ?? '', '-ldflags', linker];
    const command = tool.kind === 'program' ? ['build', ...common] : ['test', '-c', ...common];
    const sources = downloadModule(tool);
    if (tool.around === undefined)
      runGo([...command, '-o', output, tool.source], sources, { cgo: tool.cgo === true });
    else {
      const folder = join(draft, 'around');
      mkdirSync(folder);
      const { requirements } = tool.around;
      const known = requirements === undefined ? '' : readFileSync(join(sources, requirements), 'utf8');
      writeFileSync(join(folder, 'go.mod'), moduleAround(tool, known));
      runGo([...command, '-o', output, `${tool.module}${tool.source.slice(1)}`], folder, { modules: 'mod' });
      rmSync(folder, { recursive: true });
    }
    rmSync(target, { recursive: true, force: true });
    renameSync(draft, target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/**
 * The `go.mod` of a module that requires nothing but the tool, with the tool's own requirements. Replacements by folders
 * become ones by published modules: the proxy has a repository's folders as modules of their own.
 */
function moduleAround({ module, version, around }: ClientTool, requirements: string): string {
  const own = requirements.replace(/^module .*$/m, '').replaceAll(/^replace \([\s\S]*?^\)/gm, '');
  const folders = requirements.matchAll(/^\s*(\S+) => \.\/\S+$/gm).map(([, name = '']) => name);
  const replaced = around?.replaced === undefined ? [] : [...folders];
  return [
    `module spinshim.test/around\n${own}`,
    `require ${module} ${version}`,
    ...replaced.map((name) => `replace ${name} => ${name} ${around?.replaced ?? ''}`),
    '',
  ].join('\n');
}

function runGo(
  args: readonly string[],
  folder: string,
  {
    modules = 'readonly',
    cgo = false,
  }: { readonly modules?: 'readonly' | 'mod'; readonly cgo?: boolean } = {},
): void {
  execFileSync('go', args, {
    cwd: folder,
    env: { ...process.env, CGO_ENABLED: cgo ? '1' : '0', GOFLAGS: `-mod=${modules} -buildvcs=false` },
    stdio: 'inherit',
  });
}

function build(line: ContainerdLine): void {
  const target = binFolder(line);
  const draft = `${target}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    const named = `-s -w -X ${line.module}/version.Version=${line.version}`;
    const packages = programs.map((name) => `./cmd/${name}`);
    const options = ['-p', String(parallelism), '-trimpath', '-tags', tags, '-ldflags', named];
    runGo(['build', ...options, '-o', `${draft}/`, ...packages], downloadModule(line));
    rmSync(target, { recursive: true, force: true });
    mkdirSync(dirname(target), { recursive: true });
    renameSync(draft, target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

const wanted = process.argv.slice(2);
const known = [...containerdLines.map(({ line }) => line), ...clientTools.map(({ name }) => name)];
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0)
  throw new Error(`nothing here is named "${unknown.join('", "')}": there are ${known.join(', ')}`);
const missing = containerdLines.filter(
  (line) => (wanted.length === 0 || wanted.includes(line.line)) && !isBuilt(line),
);
const isWanted = ({ name, onlyNamed = false }: ClientTool): boolean =>
  wanted.includes(name) || (wanted.length === 0 && !onlyNamed);
const missingTools = clientTools.filter((tool) => isWanted(tool) && findTool(tool.name) === undefined);
const go = missing.length + missingTools.length === 0 ? 'not needed' : goVersion();
setPriority(niceness);
if (go === undefined) {
  const names = [...missingTools.map(({ name }) => name), ...missing.map(({ line }) => `containerd ${line}`)];
  console.error(
    `NOT BUILT: ${names.join(', ')}. There is no "go" on the PATH; these will not be tested with.`,
  );
} else {
  const attempt = (name: string, make: () => void): void => {
    console.error(`building ${name} (${go})`);
    try {
      make();
    } catch (error) {
      process.exitCode = 1;
      console.error(`NOT BUILT: ${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  for (const tool of missingTools) attempt(`${tool.name} ${tool.version}`, () => buildTool(tool));
  for (const line of missing) attempt(`containerd ${line.version}`, () => build(line));
}
for (const tool of clientTools) console.log(`${tool.name}\t${findTool(tool.name) ?? 'not built'}`);
for (const line of containerdLines) {
  console.log(`${line.line}\t${isBuilt(line) ? binFolder(line) : 'not built'}`);
}
