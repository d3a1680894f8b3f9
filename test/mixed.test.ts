import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupFolders } from './support/cgroups.ts';
import { PrivateContainerd } from './support/containerd.ts';
import type { EventStream } from './support/ctr.ts';
import { footprint } from './support/footprint.ts';
import { httpRequest } from './support/http-get.ts';
import { logLines } from './support/pod.ts';
import { shimUnderTest } from './support/shim.ts';
import {
  containerEnd,
  importMixedImages,
  linuxShims,
  linuxSocket,
  mixedImages,
  runcContainers,
  startContainer,
  startSidecar,
} from './support/sidecar.ts';
import { Terminal } from './support/terminal.ts';
import { waitFor } from './support/wait.ts';

const mebibyte = 1024 * 1024;

describe('Linux containers in a pod of a Spin app', { timeout: 240_000 }, () => {
  let containerd: PrivateContainerd;
  let events: EventStream;
  let podId: string;
  let init: string;
  let app: string;
  let sidecar: string;
  let empty: ReturnType<typeof restingFootprint>;

  const log = (container: string, stream: 'stdout' | 'stderr' = 'stdout') =>
    logLines(containerd.containerLog('mixed', container), stream);

  const topicsOf = (id: string): string[] =>
    events.all
      .filter(({ payload }) => payload.container_id === id)
      .map(({ topic, payload }) =>
        payload.exec_id !== undefined || (payload.id !== undefined && payload.id !== id)
          ? `${topic} (exec)`
          : topic,
      );

  const inPod = async (id: string, ...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await containerd.cri.execSync(id, ['/bin/sidecar', ...args]);
    assert.equal(exitCode, 0, stderr.toString());
    return stdout.toString();
  };

  before(async () => {
    containerd = await PrivateContainerd.start(shimUnderTest().containerd);
    await importMixedImages(containerd);
    // The host, its warm engine and its connections to containerd are there from the first pod on.
    const first = await containerd.runPod({ name: 'first', runtimeHandler: 'spin-v2' });
    await startSidecar(containerd, first, 'side', ['wait']);
    await startContainer(containerd, first, { name: 'app', image: mixedImages.app });
    await containerd.cri.stopPod(first);
    await containerd.cri.removePod(first);
    let last: string | undefined;
    empty = await waitFor('a host at rest', () => {
      const now = restingFootprint(containerd);
      const isSteady = last === JSON.stringify(now);
      last = JSON.stringify(now);
      return isSteady && now;
    });
    events = await containerd.ctr().events();
    podId = await containerd.runPod({ name: 'mixed', runtimeHandler: 'spin-v2' });
  });

  after(async () => {
    await events.stop();
    const report = await containerd.cleanup();
    assert.deepEqual(report, { killed: [], unmounted: [], failures: [] });
  });

  test('an init container runs before the app and its shim goes with it', async () => {
    init = await startSidecar(containerd, podId, 'init', ['say', 'prepared', '0']);
    const { exit_code, reason } = await containerEnd(containerd, init);
    assert.deepEqual([exit_code, reason], [0, 'Completed']);
    assert.deepEqual(log('init'), ['prepared']);
    assert.deepEqual(log('init', 'stderr'), ['prepared']);
    await waitFor('the Linux shim to end', () => linuxShims(containerd).length === 0);
    assert.ok(!runcContainers().includes(init));
    const next = await startSidecar(containerd, podId, 'next', ['exit', '7']);
    const end = await containerEnd(containerd, next);
    assert.deepEqual([end.exit_code, end.reason], [7, 'Error']);
  });

  test('a sidecar reaches the app on localhost', async () => {
    sidecar = await startSidecar(containerd, podId, 'sidecar', ['ask', '80', '/'], {
      envs: { COLOUR: 'green' },
    });
    app = await startContainer(containerd, podId, { name: 'app', image: mixedImages.app });
    await waitFor('the sidecar to have its answer', () => log('sidecar').includes('ready'));
    assert.equal(log('sidecar')[0], 'Hello from Spin!');
    const answer = await httpRequest(`http://${await containerd.cri.podIp(podId)}/`);
    assert.equal(answer.text.trim(), 'Hello from Spin!');
  });

  test('both share the pod: hostname, network and ipc', async () => {
    const namespaces = async (id: string): Promise<readonly string[]> => {
      const { info = '{}' } = await containerd.cri.verboseStatus(id);
      const { pid } = JSON.parse(info) as { pid: number };
      return ['net', 'uts', 'ipc'].map((name) => readlinkSync(`/proc/${pid}/ns/${name}`));
    };
    const other = await startSidecar(containerd, podId, 'other', ['wait']);
    assert.deepEqual(await namespaces(sidecar), await namespaces(other));
    assert.equal((await namespaces(sidecar))[0], (await namespaces(app))[0]);
    assert.equal(linuxShims(containerd).length, 1, 'one Linux shim for the pod');
    await containerd.cri.stop(other, 5);
    assert.equal((await containerd.cri.status(other)).exit_code, 0, 'ended by SIGTERM itself');
    await containerd.cri.remove(other);
    assert.equal(linuxShims(containerd).length, 1);
  });

  test('the Linux shim is as the host: its score for want of memory, what it finds where it works', async () => {
    const [shim = 0] = linuxShims(containerd);
    const score = (pid: number): string => readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8');
    assert.equal(score(shim), score(containerd.hostPids()[0] ?? 0));
    // Of the first container, as containerd has it: a runtime may look for the one and the other there.
    assert.deepEqual(
      ['config.json', 'init.pid'].filter((name) => !existsSync(`/proc/${shim}/cwd/${name}`)),
      [],
    );
  });

  test('commands run in a sidecar', async () => {
    assert.equal(await inPod(sidecar, 'env', 'COLOUR'), 'green\n');
    assert.match(await inPod(sidecar, 'fetch', '80', '/'), /Hello from Spin!/);
    const ended = await containerd.cri.execSync(sidecar, ['/bin/sidecar', 'say', 'x', '5']);
    assert.deepEqual([ended.exitCode, `${ended.stdout}`, `${ended.stderr}`], [5, 'x\n', 'x\n']);
    await assert.rejects(containerd.cri.execSync(sidecar, ['/bin/nothing']), /no such file or directory/);
    await assert.rejects(
      containerd.cri.execSync(sidecar, ['/bin/sidecar', 'wait'], 1),
      /timeout 1s exceeded/,
    );
  });

  test('a command gets its input', async () => {
    const ctr = ['--address', containerd.address, '--namespace', 'k8s.io', 'task', 'exec'];
    const echo = await run(
      'ctr',
      [...ctr, '--exec-id', 'echo', sidecar, '/bin/sidecar', 'echo'],
      'to and fro\n',
    );
    assert.equal(echo, 'to and fro\n');
  });

  test('a command on a terminal, which it gets if it is asked for, learns of a new size of it', async () => {
    const options = ['--address', containerd.address, '--namespace', 'k8s.io'];
    const inside = [
      ...options,
      'task',
      'exec',
      '--tty',
      '--exec-id',
      'resized',
      sidecar,
      '/bin/sidecar',
      'tty',
    ];
    const terminal = new Terminal(`stty cols 101 rows 22; ctr ${inside.join(' ')} 50`);
    await terminal.shows('terminal 1, 101 by 22');
    await terminal.resizeUntil(77, 'terminal 1, 77 by 22');
    await terminal.resizeUntil(50);
    assert.equal(await terminal.exitCode(), 0);
    await events.waitFor(
      ({ topic, payload }) => topic === '/tasks/exec-added' && payload.exec_id === 'resized',
    );
  });

  test('is measured, limited and listed', async () => {
    const [ofSidecar, ofApp] = [await containerd.cri.stats(sidecar), await containerd.cri.stats(app)];
    for (const { memory, cpu } of [ofSidecar, ofApp]) {
      assert.ok((memory?.working_set_bytes?.value ?? 0) > 0);
      assert.ok((cpu?.usage_core_nano_seconds?.value ?? 0) > 0);
    }
    const listed = (await containerd.cri.listStats(podId)).map(({ attributes }) => attributes.id);
    assert.ok(listed.includes(sidecar) && listed.includes(app));
    await containerd.cri.updateResources(sidecar, { memoryLimit: 48 * mebibyte });
    const limits = cgroupFolders(containerd.cgroupParent)
      .filter((folder) => folder.endsWith(sidecar))
      .flatMap((folder) => [join(folder, 'memory.limit_in_bytes'), join(folder, 'memory.max')])
      .filter((file) => existsSync(file))
      .map((file) => readFileSync(file, 'utf8').trim());
    assert.deepEqual(limits, [String(48 * mebibyte)]);
    const { stdout } = await containerd.ctr().exec(['task', 'ps', sidecar]);
    assert.equal(stdout.trim().split('\n').length, 2, 'a head and one process');
    await containerd.ctr().exec(['task', 'pause', sidecar]);
    assert.match(
      (await containerd.ctr().exec(['task', 'ls'])).stdout,
      new RegExp(`${sidecar}\\s+\\d+\\s+PAUSED`),
    );
    await containerd.ctr().exec(['task', 'resume', sidecar]);
  });

  test('want of memory ends a container, and the kubelet is told so', async () => {
    const resources = { memoryLimit: 16 * mebibyte };
    const id = await startSidecar(containerd, podId, 'hungry', ['eat', '64'], { resources });
    const { exit_code, reason } = await containerEnd(containerd, id);
    assert.deepEqual([exit_code, reason], [137, 'OOMKilled']);
    await containerd.cri.remove(id);
  });

  test('what is no program of the image is refused with the reason', async () => {
    const id = await containerd.cri.createContainer(podId, {
      name: 'wrong',
      image: mixedImages.sidecar,
      command: ['/bin/missing'],
    });
    await assert.rejects(
      containerd.cri.start(id),
      /is not a Spin app: .*; nor can it run as a Linux container, since its command "\/bin\/missing" is no executable/,
    );
    const bad = await containerd.cri.createContainer(podId, {
      name: 'nowhere',
      image: mixedImages.sidecar,
      workingDir: '/bin/sidecar/below',
    });
    await assert.rejects(containerd.cri.start(bad), /runc create failed/);
    assert.ok(!runcContainers().includes(bad));
    for (const failed of [id, bad]) await containerd.cri.remove(failed);
  });

  test('every container is told of once and in order', async () => {
    const explain = (): string => topicsOf(init).join(', ');
    await waitFor('the last event', () => topicsOf(init).length === 4, { explain });
    assert.deepEqual(topicsOf(init), ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
    const execs = topicsOf(sidecar).filter((topic) => topic.endsWith('(exec)'));
    assert.ok(execs.includes('/tasks/exec-added (exec)') && execs.includes('/tasks/exit (exec)'));
  });

  test('a pod can share its processes', async () => {
    const shared = await containerd.runPod({ name: 'shared', runtimeHandler: 'spin-v2', sharedPid: true });
    const id = await containerd.cri.createContainer(shared, {
      name: 'side',
      image: mixedImages.sidecar,
      args: ['wait'],
      sharedPid: true,
    });
    await containerd.cri.start(id);
    const pids = (await inPod(id, 'processes')).trim().split('\n');
    assert.equal(pids.length, 3, 'the sandbox, the sidecar and the command itself');
    await containerd.cri.stopPod(shared);
    await containerd.cri.removePod(shared);
  });

  test('a pod can have its sandbox from its image', async () => {
    const annotations = { 'spin.shim/sandbox': 'runc' };
    const stock = await containerd.runPod({ name: 'stock', runtimeHandler: 'spin-v2', annotations });
    assert.ok(runcContainers().includes(stock));
    const main = await startContainer(containerd, stock, { name: 'app', image: mixedImages.app });
    const side = await startSidecar(containerd, stock, 'side', ['wait']);
    assert.match(await inPod(side, 'fetch', '80', '/'), /Hello from Spin!/);
    assert.equal((await containerd.cri.status(main)).state, 'CONTAINER_RUNNING');
    await containerd.cri.stopPod(stock);
    await containerd.cri.removePod(stock);
    assert.ok(!runcContainers().includes(stock));
  });

  test('ctr runs a Linux container with and without a terminal', async () => {
    const io = ['--address', containerd.address, '--namespace', 'k8s.io', 'run', '--rm'];
    const own = ['--runtime', 'io.containerd.spin.v2', '--cgroup', `${containerd.cgroupParent}/ctr`];
    const fifos = ['--fifo-dir', join(containerd.folder, 'fifo')];
    const rest = [...own, ...fifos, '--snapshotter', containerd.snapshotter];
    const command = [mixedImages.sidecar, 'plain', '/bin/sidecar', 'say', 'hello', '4'];
    await assert.rejects(run('ctr', [...io, ...rest, ...command]), /"ctr" ended with 4: .*hello\nhello\n$/s);
    const inside = [...io, '--tty', ...rest, mixedImages.sidecar, 'typed', '/bin/sidecar', 'tty'].join(' ');
    // It stays until it is resized: of a command that ends at once the Linux shim may lose the output.
    const terminal = new Terminal(`ctr ${inside} 50`);
    await terminal.shows('terminal 1, ');
    await terminal.resizeUntil(50);
    assert.equal(await terminal.exitCode(), 0);
  });

  test('nothing is left of pods that are gone', async () => {
    const socket = linuxSocket(containerd, sidecar);
    assert.ok(existsSync(socket));
    await containerd.cri.stopPod(podId);
    assert.equal((await containerd.cri.status(sidecar)).exit_code, 137);
    assert.ok(!existsSync(socket));
    const left = linuxShims(containerd).map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    assert.deepEqual(left, []);
    const containers = (await containerd.cri.listContainers(podId)).map(({ id }) => id);
    await containerd.cri.removePod(podId);
    assert.deepEqual(
      runcContainers().filter((id) => containers.includes(id)),
      [],
    );
    await waitFor('everything to be as before', () => {
      assert.deepEqual(restingFootprint(containerd), empty);
      return true;
    });
  });
});

/** What is held while containerd, the host and its one warm engine are all that runs; undefined otherwise. */
function restingFootprint(containerd: PrivateContainerd) {
  const { hostDescriptors, ...rest } = footprint(containerd);
  const { processes, zombies } = rest;
  const isResting = zombies === 0 && processes.length === 3 && /engine\.(ts|cjs)/.test(processes.join());
  return isResting ? { ...rest, sockets: hostDescriptors.socket } : undefined;
}

/** Standard output of a command that ends with 0. */
function run(command: string, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(command, [...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk;
  });
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0
        ? resolve(output)
        : reject(new Error(`"${command}" ended with ${code}: ${complaint}${output}`)),
    );
  });
}
