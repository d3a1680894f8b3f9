/**
 * Runs the tests of containerd's own Go client that exercise a shim, with ours as the runtime: `client-suite.ts [--line 2.3]
 * [--runtime NAME] [--run REGEX] [--output FILE]`. The line has to be one of 2.x, whose module has these tests, and `build.ts
 * client-suite-LINE runc-fp` builds them; without them nothing runs, and that is said. They start a containerd of their own, with
 * folders that they name themselves; so all of it is in namespaces of its own (mounts, network, IPC, processes), and ends with
 * them. Prints a line for each test and the counts; ends with 1 when one failed.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createServer } from 'node:tls';
import { parseArgs } from 'node:util';
import { cgroupFolders } from '../support/cgroups.ts';
import { pushImage } from '../support/images.ts';
import { PrivateRegistry } from '../support/registry.ts';
import { relay } from '../support/relay.ts';
import { shimUnderTest } from '../support/shim.ts';
import { findTool } from './client-tools.ts';
import { useLine } from './containerd-lines.ts';
import { busyboxImage } from './critest-images.ts';

/** What of the client's tests meets a shim (containerd.md 10.1). */
const names = [
  ...[
    'ContainerStart',
    'ContainerOutput',
    'ContainerWait',
    'ContainerKill',
    'ContainerKillAll',
    'ContainerNoSTDIN',
  ],
  ...['DeleteRunningContainer', 'TaskForceDelete', 'ProcessForceDelete', 'ContainerExitedAtSet'],
  ...['ContainerNoBinaryExists', 'ContainerExecNoBinaryExists', 'ShortRunningTaskPid'],
  ...['WaitStoppedTask', 'WaitStoppedProcess'],
  ...[
    'ContainerExec',
    'ContainerLargeExecArgs',
    'ContainerExecLargeOutputWithTTY',
    'DeleteContainerExecCreated',
  ],
  ...['ContainerLoadUnexistingProcess', 'ContainerPids'],
  ...['ContainerCloseIO', 'ContainerAttach', 'ContainerAttachProcess', 'ContainerPTY', 'TaskResize'],
  ...['ShimDoesNotLeakPipes', 'ShimSockLength', 'ShimDoesNotLeakSockets'],
  ...['ShimInCgroup', 'ShimOOMScore', 'DaemonRuntimeRoot', 'DaemonCustomCgroup'],
  ...['ContainerMetrics', 'DeletedContainerMetrics', 'TaskUpdate', 'ContainerUpdate'],
  ...[
    'DaemonRestart',
    'DaemonRestartWithRunningShim',
    'DaemonReconnectsToShimIOPipesOnRestart',
    'RestartMonitor',
  ],
  ...['RegressionIssue4769', 'RegressionIssue6429'],
  ...[
    'ContainerStartWithAbsRuntimePath',
    'ContainerRuntimeOptionsv2',
    'NewTaskWithRuntimeOption',
    'RuntimeInfo',
  ],
  ...['ContainerHook', 'KillContainerDeletedByRunc', 'Issue9103', 'Issue10589', 'Issue13030'],
  ...['CheckpointRestorePTY', 'CheckpointRestore', 'CheckpointRestoreNewContainer', 'CheckpointLeaveRunning'],
  ...['UserNamespaces', 'MountAtRuntime', 'MountManager'],
];

const { values: flags } = parseArgs({
  options: {
    line: { type: 'string', default: '2.3' },
    runtime: { type: 'string', default: 'io.containerd.spin.v2' },
    run: { type: 'string', default: `^Test(${names.join('|')})$` },
    output: { type: 'string' },
  },
});

/** Longest that the tests may take, as Go's flag has it. */
const timeout = '10m';
const insideVariable = 'SPINSHIM_CLIENT_SUITE_INSIDE';
const imageHost = 'ghcr.io';
/** cgroups that the tests make and leave. */
const suiteCgroups = ['/testing', '/test', '/containerd'];
/** Folder of the containerd that the tests start, which they leave. */
const suiteState = '/run/containerd-test';

type TestOutcome = { readonly name: string; readonly outcome: 'PASS' | 'FAIL' | 'SKIP' };

/** Makes the suite's registry be one of this process: by name, with a certificate that the tests trust. Gives its path. */
async function playImageHost(folder: string, registry: PrivateRegistry): Promise<string> {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
  execFileSync(
    'openssl',
    [
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ],
      ...['-subj', `/CN=${imageHost}`, '-addext', `subjectAltName=DNS:${imageHost}`],
      ...['-keyout', key, '-out', certificate],
    ],
    { stdio: 'ignore' },
  );
  const hosts = join(folder, 'hosts');
  writeFileSync(hosts, `127.0.0.1 localhost ${imageHost}\n`);
  execFileSync('mount', ['--bind', hosts, '/etc/hosts']);
  const [name = '', port] = registry.host.split(':');
  const server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (socket) => {
    relay(socket, connect(Number(port), name));
  });
  server.listen(443, '127.0.0.1').unref();
  return certificate;
}

async function pushImages(registry: PrivateRegistry): Promise<void> {
  const binary = '/usr/bin/busybox';
  const image = await busyboxImage(binary, { hasPlainShell: true });
  await pushImage(registry, image, 'containerd/busybox', '1.36');
  await pushImage(registry, image, 'containerd/volume-ownership', '2.1');
  const removed = ['file-to-delete', 'dir-to-delete'];
  const cut = await busyboxImage(binary, { hasPlainShell: true, removed });
  await pushImage(registry, cut, 'containerd/whiteout-test', '1.0');
}

async function runSuite(suite: string): Promise<readonly TestOutcome[]> {
  useLine(flags.line);
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-client-'));
  const before = new Set(suiteCgroups.flatMap(cgroupFolders));
  const registry = await PrivateRegistry.start();
  try {
    await pushImages(registry);
    const certificate = await playImageHost(folder, registry);
    for (const place of ['run', 'state']) await mkdir(join(folder, place), { mode: 0o700 });
    const { shimDir = '', env } = shimUnderTest().containerd;
    const failing = findTool('runc-fp');
    const failpoints = failing === undefined ? [] : [dirname(failing)];
    const args = ['-test.v', '-test.root', `-test.run=${flags.run}`, `-test.timeout=${timeout}`, '-no-criu'];
    const child = spawn(suite, args, {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...env,
        PATH: [shimDir, ...failpoints, process.env.PATH ?? ''].join(':'),
        TMPDIR: folder,
        TEST_RUNTIME: flags.runtime,
        SSL_CERT_FILE: certificate,
        SPINSHIM_RUN_DIR: join(folder, 'run'),
        SPINSHIM_STATE_DIR: join(folder, 'state'),
        SPINSHIM_LEARN_CODE: 'false',
      },
    });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += String(chunk)));
    if (flags.output === undefined) child.stderr.resume();
    else {
      const file = createWriteStream(flags.output);
      child.stdout.pipe(file);
      child.stderr.pipe(file, { end: false });
    }
    await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return [...text.matchAll(/^--- (PASS|FAIL|SKIP): Test(\S+)/gm)].map(([, outcome, name = '']) => ({
      name,
      outcome: outcome as TestOutcome['outcome'],
    }));
  } finally {
    await registry.stop();
    spawnSync('umount', ['/etc/hosts']);
    for (const path of suiteCgroups.flatMap(cgroupFolders)) if (!before.has(path)) rmdirSync(path);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs this script once more in namespaces of its own, where it has `insideVariable`; gives its exit code. */
function runInside(): number {
  const script =
    'mount -t tmpfs tmpfs /run/containerd && mount -t tmpfs tmpfs "$STATE" && ip link set lo up && "$0" "$@"; code=$?; umount -R /var/lib/containerd-test 2>/dev/null; exit $code';
  mkdirSync(suiteState, { recursive: true });
  const unshared = ['--mount', '--net', '--ipc', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status, error } = spawnSync('unshare', [...unshared, 'sh', '-c', script, ...command], {
    stdio: 'inherit',
    env: { ...process.env, STATE: suiteState, [insideVariable]: '1' },
  });
  rmdirSync(suiteState);
  if (error !== undefined) throw error;
  return status ?? 1;
}

const suite = findTool(`client-suite-${flags.line}`);
if (suite === undefined || !existsSync('/usr/bin/openssl'))
  console.error(
    `NOT RUN: needs openssl and the tests: "node test/lines/build.ts client-suite-${flags.line} runc-fp" builds them`,
  );
else if (process.env[insideVariable] === undefined) process.exitCode = runInside();
else {
  const outcomes = await runSuite(suite);
  for (const { name, outcome } of outcomes) console.log(`${outcome}: ${name}`);
  const count = (wanted: TestOutcome['outcome']): number =>
    outcomes.filter(({ outcome }) => outcome === wanted).length;
  console.log(
    `containerd ${flags.line}, runtime ${flags.runtime}: ${count('PASS')} passed, ${count('FAIL')} failed, ${count('SKIP')} skipped`,
  );
  if (count('PASS') === 0 || count('FAIL') > 0) process.exitCode = 1;
}
