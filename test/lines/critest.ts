/**
 * Runs cri-tools' conformance suite through our handler: `critest.ts [--workload apps|linux] [--handler NAME]
 * [--focus REGEX] [--skip REGEX] [--line 2.3] [--shim FOLDER] [--output FILE] [--report FILE] [--all]`. Needs `critest`,
 * which `build.ts` builds, and a static `busybox`, on the PATH or named by CRITEST and BUSYBOX; without them nothing runs,
 * and that is said. All images come from a private registry. Everything is in network and IPC namespaces of its own: the
 * suite takes ports of the node, has firewall rules made and leaves shared memory behind.
 * Prints one line per spec that failed (with `--all` per spec that ran) and the counts; ends with 1 when one failed. The
 * report is for `critest-table.ts`.
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
import { useLine } from './containerd-lines.ts';
import { pushCritestImages } from './critest-images.ts';

/** What a node of Spin apps alone can be asked: nothing that runs a program in a container. */
const appSpecs =
  'Runtime info|PodSandbox|Idempotence|Container runtime should support basic operations|Image |portforward|port mapping';

/** Specs that run and cannot pass, by their names, and why; with `--workload` apps or linux, or on some lines only. */
const inapplicable: readonly {
  readonly name: RegExp;
  readonly workload?: 'apps';
  readonly version?: RegExp;
  readonly why: string;
}[] = [
  {
    name: /public image with digest/,
    why: 'the digest is that of an image in a public registry, which no stand-in has',
  },
  {
    name: /listing pod sandbox metrics/,
    workload: 'apps',
    why: 'it makes files in the container by a shell; guests have the files that they are granted',
  },
  {
    name: /listing pod sandbox metrics/,
    version: /^v?2\.[23]\./,
    why: 'containerd lists container_threads among its metrics and has no code that sends it',
  },
  {
    name: /(StopPodSandbox|StopContainer) should not return an error if not found/,
    version: /^v?1\.6\./,
    why: 'containerd 1.6 answers with an error of its own; no shim is asked',
  },
  {
    name: /execSync with timeout/,
    workload: 'apps',
    why: 'it looks for the command by pgrep, which the debug shell does not have; test/exec.test.ts: a command that takes too long is killed',
  },
  {
    name: /sysctls/,
    workload: 'apps',
    why: 'it reads /proc/sys by cat, and the debug shell shows the files of guests; test/launcher.test.ts: sets sysctls of its own namespaces',
  },
];

/** Most characters of a failure that are printed. */
const maxMessage = 400;

/** Set for the run in namespaces of its own. */
const insideVariable = 'SPINSHIM_CRITEST_INSIDE';

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
    report: { type: 'string' },
    all: { type: 'boolean', default: false },
  },
});
const { workload: kind } = flags;
if (kind !== 'apps' && kind !== 'linux') throw new Error(`--workload is "${kind}": apps or linux`);
const focus = flags.focus ?? (kind === 'apps' ? appSpecs : '');

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

/** What `critest-table.ts` reads: one run of the suite. */
export type CritestReport = {
  /** As containerd tells it. */
  readonly version: string;
  readonly handler: string;
  readonly workload: 'apps' | 'linux';
  readonly specs: readonly {
    /** What the suite calls the part it belongs to. */
    readonly group: string;
    readonly name: string;
    /** Ginkgo's word, passed, failed, skipped and others; or `inapplicable`, for a spec that cannot pass. */
    readonly state: string;
    readonly message: string;
  }[];
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
  const { nri } = containerdPaths(node.folder);
  try {
    const args = [
      `-runtime-endpoint=unix://${node.address}`,
      `-image-endpoint=unix://${node.address}`,
      `-runtime-handler=${flags.handler}`,
      `-ginkgo.json-report=${report}`,
      `-ginkgo.focus=${focus}`,
      '-ginkgo.no-color',
      ...(existsSync(nri) ? [`-nri-socket=${nri}`] : []),
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

/** Runs this script once more in namespaces of its own, where it has `insideVariable`; gives its exit code. */
function runInside(): number {
  const script = 'ip link set lo up && exec "$0" "$@"';
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status, error } = spawnSync('unshare', ['--net', '--ipc', 'sh', '-c', script, ...command], {
    stdio: 'inherit',
    env: { ...process.env, [insideVariable]: '1' },
  });
  if (error !== undefined) throw error;
  return status ?? 1;
}

/** A spec that has failed and cannot pass is told by why. */
function judged(version: string, spec: CritestReport['specs'][number]): CritestReport['specs'][number] {
  const known = inapplicable.find(
    (candidate) =>
      candidate.name.test(spec.name) &&
      (candidate.workload ?? kind) === kind &&
      (candidate.version?.test(version) ?? true),
  );
  return spec.state === 'passed' || spec.state === 'skipped' || known === undefined
    ? spec
    : { ...spec, state: 'inapplicable', message: known.why };
}

async function runSuite(program: string, box: string, kind: CritestReport['workload']): Promise<void> {
  if (flags.line !== undefined) useLine(flags.line);
  const registry = await PrivateRegistry.start();
  try {
    await pushCritestImages(registry, box, kind);
    const node = await PrivateContainerd.start({
      shimDir: flags.shim,
      registries: [registry.host],
      nri: true,
      hostPorts: true,
    });
    try {
      await redirect(node, registry);
      const { runtime_version: version } = await node.cri.version();
      const specs = (await run(node, program, flags.skip ?? '')).map((spec) =>
        judged(version, {
          group: (spec.ContainerHierarchyTexts?.[0] ?? '')
            .replace(/^\[k8s\.io\] /, '')
            .replaceAll(/ ?\[[^\]]*\]/g, ''),
          name: [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' '),
          state: spec.State,
          message: (spec.Failure?.Message ?? '').replaceAll(/\s+/g, ' ').slice(0, maxMessage),
        }),
      );
      const ran = specs.filter(({ state }) => state !== 'skipped' && state !== 'pending');
      const failed = ran.filter(({ state }) => state !== 'passed' && state !== 'inapplicable');
      for (const { name, state, message } of flags.all ? specs : failed)
        console.log(`${state}: ${name}${message === '' ? '' : `: ${message}`}`);
      const passed = ran.filter(({ state }) => state === 'passed').length;
      const title = `containerd ${version}, handler ${flags.handler}, ${kind}`;
      console.log(
        `${title}: ${passed} passed, ${failed.length} failed, ${ran.length - failed.length - passed} not applicable`,
      );
      if (flags.report !== undefined) {
        const report: CritestReport = { version, handler: flags.handler, workload: kind, specs };
        await writeFile(flags.report, JSON.stringify(report));
      }
      if (ran.length === 0 || failed.length > 0) process.exitCode = 1;
    } finally {
      await node.cleanup();
    }
  } finally {
    await registry.stop();
  }
}

const program = find(critest);
const box = find(busybox);
if (program === undefined || box === undefined) {
  console.error(
    `NOT RUN: needs critest (${program ?? 'missing'}) and a static busybox (${box ?? 'missing'})`,
  );
} else if (process.env[insideVariable] === undefined) process.exitCode = runInside();
else await runSuite(program, box, kind);
