/**
 * Runs cri-tools' conformance suite through our handler: `critest.ts [--workload apps|linux] [--handler NAME]
 * [--focus REGEX] [--skip REGEX] [--line 2.3] [--shim FOLDER] [--output FILE] [--all]`. Needs `critest`, which
 * `build.ts` builds, and a static `busybox`, on the PATH or named by CRITEST and BUSYBOX; without them nothing runs, and that is said. All images come from a private registry.
 * Prints one line per spec that failed (with `--all` per spec that ran) and the counts; ends with 1 when one failed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PrivateContainerd } from '../support/containerd.ts';
import { containerdPaths } from '../support/containerd-config.ts';
import { unmountUnder } from '../support/mounts.ts';
import { PrivateRegistry } from '../support/registry.ts';
import { findTool } from './client-tools.ts';
import { binFolder, containerdLines } from './containerd-lines.ts';
import { pushCritestImages } from './critest-images.ts';

/** What a node of Spin apps alone can be asked: nothing that runs a command in a container. */
const appSpecs =
  'Runtime info|PodSandbox|Idempotence|Container runtime should support basic operations|Image Manager|portforward|port mapping';
/** These look for a program by pgrep, or set a sysctl by one, or start three servers for the same port in one pod. */
const notForApps = 'execSync with timeout|sysctls|three created containers';
/**
 * What nothing here could pass, runc's handler neither: images of the suite's own registry that no busybox stands in
 * for (nginx's pid file and process title, httpd's log, ipcmk, a setuid program), a CNI plugin that the test network
 * does not have, and a metric (container_threads) that containerd lacks here.
 */
const notHere = [
  'public image with digest',
  'port mapping with host port',
  'NoNewPrivs',
  'NamespaceOption runtime should support (HostPID|HostIpc|ContainerPID)',
  'multiple containers in a pod should support container log',
  'support MaskedPaths',
  'listing pod sandbox metrics',
].join('|');

/** containerd 1.6 answers with an error of its own; no shim is asked. */
const notIn16 = 'Stop(PodSandbox|Container) should not return an error if not found';

/** Most characters of a failure that are printed. */
const maxMessage = 400;

/** Registries the suite names; containerd asks the private one in their place. */
const suiteRegistries = ['registry.k8s.io', 'k8s.gcr.io', 'gcr.io'];

const { values: flags } = parseArgs({
  options: {
    workload: { type: 'string', default: 'apps' },
    handler: { type: 'string', default: 'spin-v2' },
    focus: { type: 'string' },
    skip: { type: 'string' },
    line: { type: 'string' },
    shim: { type: 'string', default: join(import.meta.dirname, '..', '..', 'dist', 'bin') },
    output: { type: 'string' },
    all: { type: 'boolean', default: false },
  },
});
const { workload } = flags;
if (workload !== 'apps' && workload !== 'linux')
  throw new Error(`--workload is "${workload}": apps or linux`);
const focus = flags.focus ?? (workload === 'apps' ? appSpecs : '');

const { CRITEST: critest = findTool('critest') ?? 'critest', BUSYBOX: busybox = 'busybox' } = process.env;

/** Absolute path of a program, or undefined. */
function find(program: string): string | undefined {
  const { stdout, status } = spawnSync('sh', ['-c', 'command -v -- "$1"', 'sh', program], {
    encoding: 'utf8',
  });
  return status === 0 ? stdout.trim() : undefined;
}

/** One spec of the suite's report; the names are Ginkgo's. */
type Spec = {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeType: string;
  readonly LeafNodeText: string;
  readonly State: string;
  readonly Failure?: { readonly Message: string };
};

/** Makes containerd take the suite's images from a registry of ours, and from nowhere else. */
async function redirect(node: PrivateContainerd, registry: PrivateRegistry): Promise<void> {
  const text = `server = "${registry.url}"\n[host."${registry.url}"]\ncapabilities = ["pull", "resolve"]\n`;
  for (const name of suiteRegistries) {
    const folder = join(containerdPaths(node.folder).hosts, name);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'hosts.toml'), text);
  }
}

async function run(node: PrivateContainerd, program: string, skip: string): Promise<Spec[]> {
  const reports = await mkdtemp(join(tmpdir(), 'spinshim-critest-'));
  const report = join(reports, 'report.json');
  try {
    const args = [
      `-runtime-endpoint=unix://${node.address}`,
      `-image-endpoint=unix://${node.address}`,
      `-runtime-handler=${flags.handler}`,
      `-ginkgo.json-report=${report}`,
      `-ginkgo.focus=${focus}`,
      '-ginkgo.no-color',
    ];
    if (skip !== '') args.push(`-ginkgo.skip=${skip}`);
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, TMPDIR: reports },
    });
    if (flags.output !== undefined) {
      const file = createWriteStream(flags.output);
      child.stdout.pipe(file);
      child.stderr.pipe(file, { end: false });
    } else {
      child.stdout.resume();
      child.stderr.pipe(process.stderr);
    }
    await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (!existsSync(report)) throw new Error('critest left no report; --output FILE keeps what it said');
    const suites = JSON.parse(await readFile(report, 'utf8')) as { readonly SpecReports: readonly Spec[] }[];
    return suites
      .flatMap(({ SpecReports }) => SpecReports)
      .filter(({ LeafNodeType }) => LeafNodeType === 'It');
  } finally {
    // Specs about mount propagation that fail leave theirs behind.
    await unmountUnder(reports);
    await rm(reports, { recursive: true, force: true });
  }
}

const program = find(critest);
const box = find(busybox);
if (program === undefined || box === undefined) {
  console.error(
    `NOT RUN: needs critest (${program ?? 'missing'}) and a static busybox (${box ?? 'missing'})`,
  );
} else {
  const line = containerdLines.find((candidate) => candidate.line === flags.line);
  if (flags.line !== undefined && line === undefined) throw new Error(`no containerd line "${flags.line}"`);
  if (line !== undefined) process.env.PATH = `${binFolder(line)}:${process.env.PATH ?? ''}`;
  const registry = await PrivateRegistry.start();
  try {
    await pushCritestImages(registry, box, workload);
    const node = await PrivateContainerd.start({ shimDir: flags.shim, registries: [registry.host] });
    try {
      await redirect(node, registry);
      const { runtime_version } = await node.cri.version();
      const usual = workload === 'apps' ? `${notForApps}|${notHere}` : notHere;
      const skip = flags.skip ?? (/^v?1\.6\./.test(runtime_version) ? `${usual}|${notIn16}` : usual);
      const specs = (await run(node, program, skip)).filter(
        ({ State }) => State !== 'skipped' && State !== 'pending',
      );
      const failed = specs.filter(({ State }) => State !== 'passed');
      for (const { ContainerHierarchyTexts: above, LeafNodeText: text, State, Failure } of flags.all
        ? specs
        : failed) {
        const message = (Failure?.Message ?? '').replaceAll(/\s+/g, ' ').slice(0, maxMessage);
        console.log(`${State}: ${[...(above ?? []), text].join(' ')}${message === '' ? '' : `: ${message}`}`);
      }
      const title = `containerd ${runtime_version}, handler ${flags.handler}, ${workload}`;
      console.log(`${title}: ${specs.length - failed.length} of ${specs.length} specs passed`);
      if (specs.length === 0 || failed.length > 0) process.exitCode = 1;
    } finally {
      await node.cleanup();
    }
  } finally {
    await registry.stop();
  }
}
