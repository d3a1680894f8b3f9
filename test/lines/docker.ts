/**
 * What people type where Docker is: a real Docker daemon and client (built by `build.ts`) on a containerd of the test's
 * own, with our shim as a runtime, with images in containerd and in Docker's own store: `docker.ts [--line 2.3]
 * [--store docker|containerd] [DAEMON...]`, where a daemon is `dockerd`, `dockerd-25` and so on; without any, releases 28 and 29.
 * Writes a line for each check, ends with 1 when one failed; says so when Docker is not built.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { appFolder } from '../support/apps.ts';
import { cgroupFolders } from '../support/cgroups.ts';
import { PrivateContainerd } from '../support/containerd.ts';
import { mountsUnder } from '../support/mounts.ts';
import { endProcess } from '../support/processes.ts';
import { PrivateRegistry } from '../support/registry.ts';
import { shimUnderTest } from '../support/shim.ts';
import { waitFor } from '../support/wait.ts';
import { imageForms } from './app-images.ts';
import { type CheckResult, Checks, NotApplicable } from './checks.ts';
import { findTool } from './client-tools.ts';
import { useLine } from './containerd-lines.ts';
import { PrivateDocker } from './docker-daemon.ts';

const runtime = 'io.containerd.spin.v2';
const greeting = '200 Hello from Spin!\n';

/** Where Docker keeps images; the first is the default from release 29 on, the second before it. */
type Store = 'containerd' | 'docker';

/** Images that each store is known to pull. containerd's refuses layers that cannot be unpacked as they are listed. */
const takenBy: Readonly<Record<Store, ReadonlySet<string>>> = {
  containerd: new Set(
    imageForms.map(({ name }) => name).filter((name) => name !== 'custom layers with diff ids'),
  ),
  docker: new Set(['FROM scratch, linux']),
};

/** Releases before it name no image to containerd: of theirs only the root file system is there, where Spin's own layers are not. */
const firstThatNamesImages = 27;

/** State of a container as `docker inspect` has it. */
type State = {
  readonly Status: string;
  readonly Running: boolean;
  readonly Pid: number;
  readonly ExitCode: number;
  readonly OOMKilled: boolean;
  readonly Error: string;
  readonly Health?: { readonly Status: string };
};

/** A Docker with our runtime, and what the checks ask it. */
class SpinDocker {
  readonly docker: PrivateDocker;
  readonly containerd: PrivateContainerd;
  readonly store: Store;

  constructor(docker: PrivateDocker, containerd: PrivateContainerd, store: Store) {
    this.docker = docker;
    this.containerd = containerd;
    this.store = store;
  }

  /** `docker run -d` with our runtime. */
  async start(name: string, image = 'hello', ...flags: readonly string[]): Promise<void> {
    await this.docker.run('run', '--detach', '--name', name, '--runtime', runtime, ...flags, image);
  }

  async state(name: string): Promise<State> {
    return JSON.parse(await this.docker.ask('inspect', '--format', '{{json .State}}', name)) as State;
  }

  /** The daemon's release, for example 28. */
  async release(): Promise<number> {
    return Number.parseInt(await this.docker.ask('version', '--format', '{{.Server.Version}}'), 10);
  }

  async address(name: string): Promise<string> {
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    return this.docker.ask('inspect', '--format', format, name);
  }

  /** Status and body of the app's answer on its own address. */
  async answer(name: string, path = '/'): Promise<string> {
    return this.docker.get(`http://${await this.address(name)}${path}`);
  }

  /** Waits until the container is in a state. */
  async reach(name: string, reached: (state: State) => boolean): Promise<State> {
    let last: State | undefined;
    return waitFor(
      `"${name}" to change its state`,
      async () => {
        last = await this.state(name);
        return reached(last) && last;
      },
      { timeoutMs: 30_000, explain: () => JSON.stringify(last) },
    );
  }

  /** What a command printed, on both streams, and its exit code. */
  async outcome(...args: readonly string[]): Promise<{ readonly code: number; readonly text: string }> {
    try {
      const { stdout, stderr } = await this.docker.run(...args);
      return { code: 0, text: stdout + stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code?: number; stdout?: string; stderr?: string };
      return { code: code ?? -1, text: `${stdout ?? ''}${stderr ?? ''}` };
    }
  }

  /** Removes every container. */
  async clear(): Promise<void> {
    const ids = (await this.docker.ask('ps', '--all', '--quiet')).split('\n').filter((id) => id !== '');
    if (ids.length > 0) await this.docker.run('rm', '--force', '--volumes', ...ids).catch(() => {});
  }
}

/** Builds the sample apps' images by `docker build`. */
async function buildImages(docker: PrivateDocker): Promise<void> {
  const context = await mkdtemp(join(tmpdir(), 'spinshim-docker-'));
  try {
    for (const [image, app, files] of [
      ['hello', 'hello', ['spin.toml', 'hello.wasm']],
      ['broken', 'hello', ['spin.toml']],
      ['rust-http', 'rust-http', ['spin.toml', 'rust-http.wasm', 'rust-http.core.wasm', 'static']],
    ] as const) {
      const folder = join(context, image);
      for (const file of files) {
        await cp(join(appFolder(app), file), join(folder, file), { recursive: true });
      }
      await writeFile(join(folder, 'Dockerfile'), 'FROM scratch\nCOPY . /\nENTRYPOINT ["/spin.toml"]\n');
      await docker.run('build', '--tag', image, folder);
    }
  } finally {
    await rm(context, { recursive: true });
  }
}

/** A running container, and what can be asked about it. */
async function checkRunning(node: SpinDocker, checks: Checks): Promise<void> {
  const { docker } = node;
  await checks.check('docker build, run -d: the app answers on its address', async () => {
    await node.start('app', 'hello', '--env', 'GREETING=from outside');
    assert.equal(await node.answer('app'), greeting);
    return await node.address('app');
  });
  await checks.check('docker logs', () =>
    waitFor('the log', async () => {
      const { text } = await node.outcome('logs', 'app');
      return /Serving http/.test(text) && text;
    }),
  );
  await checks.check('docker exec: env, ls, exit code, standard input, a shell line', async () => {
    assert.match(await docker.ask('exec', 'app', 'env'), /^GREETING=from outside$/m);
    assert.equal((await node.outcome('exec', 'app', 'ls', '/')).code, 0);
    assert.equal((await node.outcome('exec', 'app', 'false')).code, 1);
    assert.equal(await docker.ask('exec', 'app', '/bin/sh', '-c', 'echo a shell line'), 'a shell line');
    assert.equal(await docker.ask('exec', '--env', 'ADDED=1', 'app', 'sh', '-c', 'echo $ADDED'), '1');
    const typed = spawn(docker.client, ['exec', '--interactive', 'app', 'cat'], { env: docker.environment });
    typed.stdin.end('through the pipe\n');
    let text = '';
    for await (const chunk of typed.stdout) text += String(chunk);
    assert.equal(text, 'through the pipe\n');
    return await docker.ask('exec', 'app', 'routes');
  });
  await checks.check('docker ps, top, stats, inspect', async () => {
    assert.match(await docker.ask('ps'), /hello.*Up/);
    const top = await docker.ask('top', 'app');
    const { Pid: pid, Status: status } = await node.state('app');
    assert.equal(status, 'running');
    assert.match(top, new RegExp(`\\b${pid}\\b`));
    const usage = await docker.ask('stats', '--no-stream', '--format', '{{.MemUsage}} {{.PIDs}}', 'app');
    assert.match(usage, /^[1-9][\d.]*[KM]iB \/ \S+ [1-9]\d*$/);
    return usage;
  });
  await checks.check('docker pause, unpause', async () => {
    await docker.run('pause', 'app');
    assert.equal((await node.state('app')).Status, 'paused');
    await docker.run('unpause', 'app');
    assert.equal((await node.state('app')).Status, 'running');
    assert.equal(await node.answer('app'), greeting);
    return 'paused, running';
  });
  await checks.check('docker update --memory', async () => {
    await docker.run('update', '--memory', '200m', '--memory-swap', '200m', 'app');
    const limit = await docker.ask('stats', '--no-stream', '--format', '{{.MemUsage}}', 'app');
    assert.match(limit, /\/ 200MiB$/);
    return limit;
  });
  await checks.check('docker cp, diff', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spinshim-docker-'));
    try {
      await docker.run('cp', 'app:/spin.toml', folder);
      assert.ok(existsSync(join(folder, 'spin.toml')));
    } finally {
      await rm(folder, { recursive: true });
    }
    return (await docker.ask('diff', 'app')) || 'no difference';
  });
}

/** Ends of containers, asked for and not, and their codes. */
async function checkEnds(node: SpinDocker, checks: Checks): Promise<void> {
  const { docker } = node;
  await checks.check('docker restart, stop (exit code 0), start, kill (137), rm', async () => {
    await node.start('ends');
    const first = await node.state('ends');
    await docker.run('restart', 'ends');
    assert.notEqual((await node.state('ends')).Pid, first.Pid);
    assert.equal(await node.answer('ends'), greeting);
    await docker.run('stop', 'ends');
    const stopped = await node.state('ends');
    assert.deepEqual([stopped.Status, stopped.ExitCode], ['exited', 0]);
    await docker.run('start', 'ends');
    assert.equal(await node.answer('ends'), greeting);
    await docker.run('kill', 'ends');
    const killed = await node.reach('ends', ({ Running }) => !Running);
    assert.deepEqual([killed.Status, killed.ExitCode, killed.OOMKilled], ['exited', 137, false]);
    await docker.run('rm', 'ends');
    return 'exit codes 0 and 137';
  });
  await checks.check('docker stop drains: a request under way is answered', async () => {
    await node.start('drain', 'rust-http');
    const url = `http://${await node.address('drain')}/stream/5/400`;
    const answer = docker.open(url);
    await answer.begun;
    await docker.run('stop', 'drain');
    const text = await answer.whole;
    assert.match(text, /chunk 4\n$/);
    assert.equal((await node.state('drain')).ExitCode, 0);
    await docker.run('rm', 'drain');
    return text;
  });
  await checks.check(
    'docker run in the foreground: its output, docker kill --signal TERM ends it with 0',
    async () => {
      const flags = ['run', '--name', 'front', '--rm', '--runtime', runtime, 'hello'];
      const front = spawn(docker.client, flags, { env: docker.environment });
      let text = '';
      front.stdout.on('data', (chunk: Buffer) => (text += String(chunk)));
      const ended = new Promise<number | null>((resolve) => front.once('close', resolve));
      await waitFor('its output', () => /Serving http/.test(text));
      await docker.run('kill', '--signal', 'TERM', 'front');
      assert.equal(await ended, 0);
      return text;
    },
  );
  await checks.check('docker rm -f of a running one', async () => {
    await node.start('forced');
    await docker.run('rm', '--force', 'forced');
    assert.doesNotMatch(await docker.ask('ps', '--all'), /forced/);
    return 'gone';
  });
  await checks.check('want of memory is told as OOMKilled', async () => {
    await node.start('hungry', 'rust-http', '--memory', '128m', '--memory-swap', '128m');
    const unread = docker.askUnread(await node.address('hungry'), '/large/60000000', 3);
    try {
      const { ExitCode, OOMKilled } = await node.reach('hungry', ({ Running }) => !Running);
      assert.deepEqual([ExitCode, OOMKilled], [137, true]);
    } finally {
      await endProcess(unread);
    }
    await docker.run('rm', 'hungry');
    return 'exit code 137, OOMKilled';
  });
  await checks.check('a restart policy brings a killed engine back', async () => {
    await node.start('policy', 'hello', '--restart', 'always');
    const { Pid: before } = await node.state('policy');
    process.kill(before, 'SIGKILL');
    const after = await node.reach('policy', ({ Running, Pid }) => Running && Pid > 0 && Pid !== before);
    assert.equal(await node.answer('policy'), greeting);
    assert.equal(await docker.ask('inspect', '--format', '{{.RestartCount}}', 'policy'), '1');
    await docker.run('rm', '--force', 'policy');
    return `pid ${before}, then ${after.Pid}`;
  });
  await checks.check('a failed start tells its reason', async () => {
    const { code, text } = await node.outcome('run', '--name', 'broken', '--runtime', runtime, 'broken');
    assert.notEqual(code, 0);
    assert.match(text, /hello\.wasm/);
    assert.match((await node.outcome('logs', 'broken')).text, /hello\.wasm/);
    await docker.run('rm', '--force', 'broken');
    return text;
  });
}

/** What is said on the command line of `docker run`. */
async function checkFlags(node: SpinDocker, checks: Checks): Promise<void> {
  const { docker } = node;
  await checks.check('docker run --runtime NAME of daemon.json', async () => {
    await docker.run('run', '--detach', '--name', 'named', '--runtime', 'spin', 'hello');
    assert.equal(await node.answer('named'), greeting);
    await docker.run('rm', '--force', 'named');
    return 'the app answers';
  });
  await checks.check('docker run -p: a published port', async () => {
    await node.start('port', 'hello', '--publish', '127.0.0.1:8080:80');
    assert.equal(await docker.get('http://127.0.0.1:8080/'), greeting);
    await docker.run('rm', '--force', 'port');
    return '127.0.0.1:8080';
  });
  await checks.check('docker run --user, --read-only, --cap-drop, --security-opt, limits', async () => {
    await node.start(
      ...(['flags', 'hello', '--user', '1000:1000', '--read-only', '--cap-drop', 'ALL'] as const),
      ...['--security-opt', 'no-new-privileges', '--cpus', '0.5', '--pids-limit', '100', '--memory', '256m'],
    );
    assert.equal(await node.answer('flags'), greeting);
    const { Pid: pid } = await node.state('flags');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    await docker.run('rm', '--force', 'flags');
    return 'uid 1000, no new privileges';
  });
  await checks.check(
    'docker run -v, --annotation spin.shim/files: a folder of the machine is seen',
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'spinshim-docker-'));
      try {
        await writeFile(join(folder, 'note.txt'), 'from the machine\n');
        const granted = ['--annotation', 'spin.shim/files=rust-http:/data'];
        await node.start('volume', 'rust-http', '--volume', `${folder}:/data:ro`, ...granted);
        assert.equal(await node.answer('volume', '/file/data/note.txt'), '200 from the machine\n');
        assert.equal(await docker.ask('exec', 'volume', 'cat', '/data/note.txt'), 'from the machine');
        await docker.run('rm', '--force', 'volume');
      } finally {
        await rm(folder, { recursive: true });
      }
      return 'read by the guest and by exec';
    },
  );
  await checks.check('docker run --health-cmd', async () => {
    const flags = ['--health-cmd', 'true', '--health-interval', '1s', '--health-start-period', '0s'];
    await node.start('health', 'hello', ...flags);
    await node.reach('health', ({ Health }) => Health?.Status === 'healthy');
    await docker.run('rm', '--force', 'health');
    return 'healthy';
  });
  await checks.check('docker run -t is refused, with the reason', async () => {
    const { code, text } = await node.outcome('run', '--tty', '--name', 'tty', '--runtime', runtime, 'hello');
    assert.equal(code, 125);
    assert.match(text, /asks for a terminal: Spin containers have none/);
    await docker.run('rm', '--force', 'tty');
    return text;
  });
  await checks.check('docker exec -t: a terminal', async () => {
    await node.start('terminal');
    const { text } = await node.outcome('exec', '--tty', 'terminal', 'echo', 'on a terminal');
    assert.match(text, /on a terminal\r\n/);
    await docker.run('rm', '--force', 'terminal');
    return 'lines end with CR LF';
  });
}

/** Images that are Spin's, and daemons that leave. */
async function checkDaemon(node: SpinDocker, registry: PrivateRegistry, checks: Checks): Promise<void> {
  const { docker } = node;
  for (const form of imageForms) {
    await checks.check(`image: ${form.name}`, async () => {
      const pushed = await form.push(registry);
      const reference = pushed.replace(registry.host, docker.registryHost);
      const platform = form.platform === undefined ? [] : ['--platform', form.platform];
      const pulled = await node.outcome('pull', ...platform, reference);
      if (pulled.code !== 0 && !takenBy[node.store].has(form.name)) throw new NotApplicable(pulled.text);
      assert.equal(pulled.code, 0, pulled.text);
      const flags = ['--detach', '--name', 'pulled', '--runtime', runtime, ...platform];
      const started = await node.outcome('run', ...flags, reference, ...(form.command ?? []));
      if (/containerd has no image of it/.test(started.text) && (await node.release()) < firstThatNamesImages)
        throw new NotApplicable(started.text);
      assert.equal(started.code, 0, started.text);
      assert.equal(await node.answer('pulled'), greeting);
      await docker.run('rm', '--force', 'pulled');
      return 'pulled, HTTP 200';
    });
  }
  await checks.check('containers live through a restart of dockerd, orderly and not', async () => {
    await node.start('live');
    const { Pid: pid } = await node.state('live');
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await docker.restart(signal);
      const after = await node.state('live');
      assert.deepEqual([after.Status, after.Pid], ['running', pid]);
      assert.equal(await node.answer('live'), greeting);
    }
    assert.equal(await docker.ask('exec', 'live', 'echo', 'still'), 'still');
    await docker.run('stop', 'live');
    assert.equal((await node.state('live')).ExitCode, 0);
    await docker.run('rm', 'live');
    return `pid ${pid} throughout, exit code 0`;
  });
  await checks.check('nothing is left', async () => {
    await node.clear();
    const { containerd } = node;
    await waitFor('mounts, cgroups and tasks to go', async () => {
      assert.deepEqual(
        mountsUnder(containerd.folder).filter(
          (path) => !/\/docker\/exec\/netns\/default$|\/docker\/data$/.test(path),
        ),
        [],
      );
      assert.deepEqual(
        cgroupFolders(containerd.cgroupParent).filter((folder) => /\/[0-9a-f]{64}$/.test(folder)),
        [],
      );
      assert.equal((await containerd.ctr('moby').exec(['tasks', 'ls', '--quiet'])).stdout.trim(), '');
      return true;
    });
    return 'no mount, cgroup or task';
  });
}

async function checkStore(
  store: Store,
  tools: { readonly dockerd: string; readonly docker: string; readonly proxyFolder: string },
): Promise<void> {
  const containerd = await PrivateContainerd.start(shimUnderTest().containerd);
  try {
    const docker = await PrivateDocker.start(containerd, {
      ...tools,
      settings: {
        features: { 'containerd-snapshotter': store === 'containerd' },
        runtimes: { spin: { runtimeType: runtime } },
      },
    });
    const registry = await PrivateRegistry.start();
    try {
      const node = new SpinDocker(docker, containerd, store);
      const checks = new Checks(report, () => node.clear());
      console.log(
        `docker ${await docker.ask('version', '--format', '{{.Server.Version}}')} on containerd ${flags.line ?? 'of the PATH'}, images in ${store}'s store`,
      );
      await docker.reachRegistry(registry.host);
      await buildImages(docker);
      await checkRunning(node, checks);
      await checkEnds(node, checks);
      await checkFlags(node, checks);
      await checkDaemon(node, registry, checks);
      if (results.some(({ outcome }) => outcome === 'fail')) console.error(docker.logTail());
    } finally {
      await registry.stop();
      await docker.stop();
    }
  } finally {
    const { killed, failures } = await containerd.cleanup();
    report({
      name: 'nothing had to be ended by force',
      outcome: killed.length + failures.length === 0 ? 'pass' : 'fail',
      detail: [...killed, ...failures].join(', '),
      milliseconds: 0,
    });
  }
}

const results: CheckResult[] = [];
function report(result: CheckResult): void {
  results.push(result);
  const mark = { pass: '✓', fail: '✗', 'not applicable': '–' }[result.outcome];
  console.log(`  ${mark} ${result.name} (${result.milliseconds} ms): ${result.detail}`);
}
const { values: flags, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { line: { type: 'string' }, store: { type: 'string' } },
});
if (flags.line !== undefined) useLine(flags.line);
const [docker, proxy] = [findTool('docker'), findTool('docker-proxy')];
for (const name of wanted.length > 0 ? wanted : ['dockerd', 'dockerd-29']) {
  const dockerd = findTool(name);
  // Release 29 keeps images in containerd unless it is told otherwise, those before it themselves.
  for (const store of name === 'dockerd-29'
    ? (['containerd'] as const)
    : (['docker', 'containerd'] as const)) {
    if (flags.store !== undefined && flags.store !== store) continue;
    if (dockerd === undefined || docker === undefined || proxy === undefined)
      console.error(
        `NOT TESTED: ${name} or its client is not built; "node test/lines/build.ts ${name}" builds it`,
      );
    else await checkStore(store, { dockerd, docker, proxyFolder: dirname(proxy) });
  }
}
const count = (outcome: CheckResult['outcome']): number =>
  results.filter((result) => result.outcome === outcome).length;
console.log(`${count('pass')} passed, ${count('fail')} failed, ${count('not applicable')} not applicable`);
if (count('fail') > 0) process.exitCode = 1;
