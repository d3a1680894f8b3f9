/**
 * What people type on a node: `crictl` and `nerdctl` (built by `build.ts`) against a containerd of the test's own, with
 * our shim, for every line of containerd that is there or those that are named (`clients.ts 1.6 2.3`). Writes a line for each
 * check, ends with 1 when one failed; a client that is not built is said to be left out.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { appFolder } from '../support/apps.ts';
import { PrivateContainerd } from '../support/containerd.ts';
import { cniConfig, containerdPaths } from '../support/containerd-config.ts';
import { httpGet } from '../support/http-get.ts';
import { appImage, importImage } from '../support/images.ts';
import { shimUnderTest } from '../support/shim.ts';
import { freeSubnet } from '../support/subnet.ts';
import { Terminal } from '../support/terminal.ts';
import { waitFor } from '../support/wait.ts';
import { type CheckResult, Checks } from './checks.ts';
import { findTool } from './client-tools.ts';
import { presentLines, useLine } from './containerd-lines.ts';

const execute = promisify(execFile);
const commandTimeoutMs = 60_000;
const image = 'spinshim.test/hello:1';
const runtime = 'io.containerd.spin.v2';
const greeting = 'Hello from Spin!\n';

type Output = { readonly stdout: string; readonly stderr: string };

/** A client with the flags that point it to the private containerd. */
class ClientCommand {
  readonly #path: string;
  readonly #flags: readonly string[];

  constructor(path: string, flags: readonly string[]) {
    this.#path = path;
    this.#flags = flags;
  }

  run(...args: readonly string[]): Promise<Output> {
    return execute(this.#path, [...this.#flags, ...args], { timeout: commandTimeoutMs });
  }

  /** As it is typed; no word of it needs quotes. */
  line(...args: readonly string[]): string {
    return [this.#path, ...this.#flags, ...args].join(' ');
  }

  /** Standard output without the white space around it. */
  async ask(...args: readonly string[]): Promise<string> {
    return (await this.run(...args)).stdout.trim();
  }
}

/** The life of a pod by the commands an administrator uses. */
async function checkCrictl(
  crictl: ClientCommand,
  containerd: PrivateContainerd,
  checks: Checks,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-crictl-'));
  const write = async (name: string, content: object): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, JSON.stringify(content));
    return path;
  };
  try {
    const pod = await write('pod.json', {
      metadata: { name: 'crictl', namespace: 'default', uid: 'crictl-1', attempt: 1 },
      log_directory: folder,
      linux: { cgroup_parent: containerd.cgroupParent },
    });
    const container = await write('container.json', {
      metadata: { name: 'app' },
      image: { image },
      command: ['/'],
      log_path: 'app.log',
    });
    let [podId, id] = ['', ''];
    await checks.check('crictl runp, create, start', async () => {
      podId = await crictl.ask('runp', '--runtime', 'spin-v2', pod);
      id = await crictl.ask('create', podId, container, pod);
      await crictl.run('start', id);
      const { status } = JSON.parse(await crictl.ask('inspectp', podId)) as {
        status: { network: { ip: string } };
      };
      assert.equal((await httpGet(`http://${status.network.ip}/`)).text, greeting);
      return status.network.ip;
    });
    await checks.check('crictl ps, pods, inspect, logs, stats', async () => {
      assert.match(await crictl.ask('ps'), new RegExp(`${id.slice(0, 13)}.*Running.*app`));
      assert.match(await crictl.ask('pods'), /Ready\s+crictl/);
      const { info } = JSON.parse(await crictl.ask('inspect', id)) as {
        info: { pid: number; runtimeType: string };
      };
      assert.ok(info.pid > 0 && info.runtimeType === runtime);
      assert.match(
        await waitFor('the log', async () => (await crictl.ask('logs', id)) || undefined),
        /Serving http/,
      );
      const [, ...rows] = (await crictl.ask('stats', '--seconds', '1', id)).split('\n');
      assert.match(rows.join('\n'), /\d+(\.\d+)?[kM]B/);
      return rows.join(' ');
    });
    await checks.check('crictl exec, with its exit code', async () => {
      assert.match(await crictl.ask('exec', '--sync', id, 'routes'), /\/\.\.\.|\//);
      await assert.rejects(crictl.run('exec', '--sync', id, 'false'), /exited with 1/);
      return await crictl.ask('exec', '--sync', id, 'echo', 'through the shell');
    });
    await checks.check('crictl exec on a terminal, whose size changes', async () => {
      const shell = crictl.line('exec', '--interactive', '--tty', id, 'sh');
      const terminal = new Terminal(`stty cols 101 rows 31; ${shell}`);
      await terminal.shows('$ ');
      await terminal.typeUntil('echo size=$COLUMNS,$LINES', 'size=101,31');
      await terminal.resize(77, 22);
      await terminal.typeUntil('echo size=$COLUMNS,$LINES', 'size=77,22');
      terminal.type('exit 0\r');
      assert.equal(await terminal.exitCode(), 0);
      return '101 by 31, then 77 by 22';
    });
    await checks.check('crictl stop, rm, stopp, rmp', async () => {
      await crictl.run('stop', id);
      assert.match(await crictl.ask('ps', '--all'), /Exited/);
      await crictl.run('rm', id);
      await crictl.run('stopp', podId);
      await crictl.run('rmp', podId);
      assert.equal((await crictl.ask('pods', '--quiet')).length, 0);
      return 'gone';
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The life of a container by nerdctl, which has it logged by a program and networked by a hook. */
async function checkNerdctl(nerdctl: ClientCommand, checks: Checks): Promise<void> {
  const flags = ['--runtime', runtime, '--network', 'spinshim'];
  await checks.check('nerdctl run -d: network by hook, answers on its address', async () => {
    await nerdctl.run('run', '--detach', '--name', 'app', ...flags, image);
    const address = await nerdctl.ask('inspect', '--format', '{{.NetworkSettings.IPAddress}}', 'app');
    const { text } = await waitFor('the app to answer', () => httpGet(`http://${address}/`));
    assert.equal(text, greeting);
    return address;
  });
  await checks.check('nerdctl logs, through its log driver', () =>
    waitFor('the log', async () => {
      const log = await nerdctl.ask('logs', 'app');
      return /Serving http/.test(log) && log;
    }),
  );
  await checks.check('nerdctl ps, top, stats, inspect', async () => {
    assert.match(await nerdctl.ask('ps'), /app/);
    const top = await nerdctl.ask('top', 'app');
    assert.match(top, /\d+/);
    assert.match(
      await nerdctl.ask('stats', '--no-stream', '--format', '{{.MemUsage}}', 'app'),
      /^[1-9][\d.]*[KM]iB/,
    );
    return top;
  });
  await checks.check('nerdctl exec', () => nerdctl.ask('exec', 'app', 'echo', 'through the shell'));
  await checks.check('nerdctl pause, unpause', async () => {
    await nerdctl.run('pause', 'app');
    assert.match(await nerdctl.ask('ps', '--all'), /Paused/);
    await nerdctl.run('unpause', 'app');
    return await nerdctl.ask('ps', '--format', '{{.Status}}');
  });
  await checks.check('nerdctl stop, with its exit code; rm', async () => {
    await nerdctl.run('stop', 'app');
    assert.equal(await nerdctl.ask('inspect', '--format', '{{.State.ExitCode}}', 'app'), '0');
    await nerdctl.run('rm', 'app');
    assert.equal(await nerdctl.ask('ps', '--all', '--quiet'), '');
    return 'exit code 0';
  });
  await checks.check('nerdctl rm -f of a running one', async () => {
    await nerdctl.run('run', '--detach', '--name', 'forced', ...flags, image);
    await nerdctl.run('rm', '--force', 'forced');
    assert.equal(await nerdctl.ask('ps', '--all', '--quiet'), '');
    return 'gone';
  });
}

const results: CheckResult[] = [];
const report = (result: CheckResult): void => {
  results.push(result);
  const mark = { pass: '✓', fail: '✗', 'not applicable': '–' }[result.outcome];
  console.log(`  ${mark} ${result.name} (${result.milliseconds} ms): ${result.detail}`);
};

/** All checks on one line of containerd, whose programs are first on the PATH. */
async function checkClients(line: string): Promise<void> {
  console.log(`containerd ${line}`);
  const containerd = await PrivateContainerd.start(shimUnderTest().containerd);
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-clients-'));
  try {
    const app = await appImage(appFolder('hello'), { paths: ['spin.toml', 'hello.wasm'] });
    const [crictl, nerdctl] = [findTool('crictl'), findTool('nerdctl')];
    const endpoint = `unix://${containerd.address}`;
    await importImage(containerd, app, image);
    if (crictl === undefined)
      console.error('NOT TESTED: crictl is not built; "node test/lines/build.ts" builds it');
    else {
      const flags = [
        ...['--config', '/dev/null', '--timeout', '60s'],
        ...['--runtime-endpoint', endpoint, '--image-endpoint', endpoint],
      ];
      await checkCrictl(new ClientCommand(crictl, flags), containerd, new Checks(report, async () => {}));
    }
    if (nerdctl === undefined)
      console.error('NOT TESTED: nerdctl is not built; "node test/lines/build.ts" builds it');
    else {
      const networks = join(folder, 'networks');
      await mkdir(networks);
      await writeFile(
        join(networks, '10-spinshim.conflist'),
        cniConfig('spinshim', freeSubnet(), join(containerdPaths(containerd.folder).cniData, 'nerdctl')),
      );
      const flags = [
        ...['--address', containerd.address, '--namespace', 'k8s.io'],
        ...['--snapshotter', containerd.snapshotter, '--data-root', join(folder, 'data')],
        ...['--cni-netconfpath', networks, '--cni-path', '/usr/lib/cni', '--cgroup-manager', 'cgroupfs'],
      ];
      const command = new ClientCommand(nerdctl, flags);
      await checkNerdctl(
        command,
        new Checks(report, async () => {
          for (const name of ['app', 'forced']) await command.run('rm', '--force', name).catch(() => {});
        }),
      );
    }
  } finally {
    await containerd.cleanup();
    await rm(folder, { recursive: true, force: true });
  }
}

const named = process.argv.slice(2);
for (const line of named.length > 0 ? named : presentLines()) {
  useLine(line);
  await checkClients(line);
}
const failed = results.filter(({ outcome }) => outcome === 'fail').length;
console.log(`${results.length - failed} passed, ${failed} failed`);
if (failed > 0) process.exitCode = 1;
