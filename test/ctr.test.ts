import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { appFolder, type SampleApp } from './support/apps.ts';
import { type Ctr, CtrError, type EventStream } from './support/ctr.ts';
import { httpGet, httpRequest } from './support/http-get.ts';
import { appImage, importImage } from './support/images.ts';
import { SpinNode } from './support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from './support/wait.ts';

const run = promisify(execFile);
const runtime = 'io.containerd.spin.v2';
const namespace = 'plain';

/** A loopback port that nobody listens on now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

describe('Spin apps through ctr', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;
  let ctr: Ctr;
  let snapshotter: readonly string[];

  before(async () => {
    node = await SpinNode.start([]);
    ctr = node.containerd.ctr(namespace);
    snapshotter = ['--snapshotter', node.containerd.snapshotter];
    for (const app of ['hello', 'rust-http', 'js-api'] as const) await importApp(app, namespace);
  });
  afterEach(async () => {
    for (const { id } of await tasks()) {
      await ctr.exec(['task', 'kill', '-s', 'SIGKILL', id]).catch(() => {});
      await ctr.exec(['task', 'rm', '-f', id]).catch(() => {});
    }
    for (const id of await containers()) await ctr.exec(['containers', 'rm', id]);
  });
  after(() => node.stop());

  /** The name an app has after `importApp`. */
  function image(app: SampleApp): string {
    return `spinshim.test/${app}:1`;
  }

  /** As docker builds it: `ctr` of containerd 1.6 unpacks no image whose config lists fewer layers than its manifest. */
  async function importApp(app: SampleApp, target: string): Promise<void> {
    await importImage(node.containerd, await appImage(appFolder(app)), image(app), { namespace: target });
  }

  async function tasks(): Promise<{ id: string; pid: number; status: string }[]> {
    const { stdout } = await ctr.exec(['task', 'ls']);
    return stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => {
        const [id = '', pid = '', status = ''] = line.split(/\s+/);
        return { id, pid: Number(pid), status };
      });
  }

  async function containers(): Promise<string[]> {
    const { stdout } = await ctr.exec(['containers', 'ls', '-q']);
    return stdout.split('\n').filter((id) => id !== '');
  }

  /** Starts a container in the node's network; its output goes into a file. */
  async function detach(id: string, app: SampleApp): Promise<{ url: string; log: () => string }> {
    const port = await freePort();
    const file = join(node.containerd.folder, `${id}.log`);
    const options = [
      ...['--detach', '--net-host', '--env', `SPIN_HTTP_LISTEN_ADDR=127.0.0.1:${port}`],
      ...['--log-uri', `file://${file}`, ...snapshotter],
    ];
    await ctr.run({ image: image(app), id, runtime, options });
    const log = (): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
    return { url: `http://127.0.0.1:${port}`, log };
  }

  async function end(id: string): Promise<void> {
    await ctr.exec(['task', 'kill', '-s', 'SIGTERM', id]);
    await ctr.exec(['task', 'rm', id]).catch(async (error: unknown) => {
      // "must be stopped": the drain may take a moment.
      assert.match(String(error), /must be stopped|running/);
      await waitFor('the task to stop', async () =>
        (await tasks()).every((task) => task.status === 'STOPPED'),
      );
      await ctr.exec(['task', 'rm', id]);
    });
    await ctr.exec(['containers', 'rm', id]);
  }

  async function withEvents(work: (events: EventStream) => Promise<void>): Promise<void> {
    const events = await ctr.events();
    try {
      await work(events);
    } finally {
      await events.stop();
    }
  }

  /** Topics of one container's task events, in order. */
  function topicsOf(events: EventStream, id: string): string[] {
    return events.all
      .filter(({ topic, payload }) => topic.startsWith('/tasks/') && payload.container_id === id)
      .map(({ topic }) => topic);
  }

  test('run, request, log, list, metrics, kill, exit code, delete', async () => {
    const { url, log } = await detach('web', 'hello');
    assert.equal((await httpGet(url)).text, 'Hello from Spin!\n');
    assert.match(log(), new RegExp(`Serving ${url}`));
    const [task, ...others] = await tasks();
    assert.deepEqual([task?.id, task?.status, others.length], ['web', 'RUNNING', 0]);
    assert.ok((task?.pid ?? 0) > 0 && existsSync(`/proc/${task?.pid}`));
    const { stdout } = await ctr.exec(['task', 'metrics', 'web']);
    assert.match(stdout, /memory/i);
    assert.match(stdout, /cpu/i);
    const processes = (await ctr.exec(['task', 'ps', 'web'])).stdout;
    assert.match(processes, new RegExp(`^${task?.pid}\\b`, 'm'));
    await end('web');
    assert.deepEqual(await tasks(), []);
  });

  test('a container of a root file system alone, as Docker makes it of its own store', async () => {
    const rootfs = await mkdtemp(join(node.containerd.folder, 'rootfs-'));
    for (const file of ['spin.toml', 'hello.wasm'])
      await copyFile(join(appFolder('hello'), file), join(rootfs, file));
    const port = await freePort();
    const listen = ['--net-host', '--env', `SPIN_HTTP_LISTEN_ADDR=127.0.0.1:${port}`];
    const options = ['--detach', '--null-io', '--rootfs', ...listen];
    await ctr.run({ image: rootfs, id: 'rooted', runtime, options, args: ['/spin.toml'] });
    assert.equal((await httpGet(`http://127.0.0.1:${port}`)).text, 'Hello from Spin!\n');
    await end('rooted');

    await rm(join(rootfs, 'spin.toml'));
    await assert.rejects(
      ctr.run({ image: rootfs, id: 'bare', runtime, options, args: ['/spin.toml'] }),
      /is not a Spin app: containerd has no image of it.*nor can it run as a Linux container/,
    );
  });

  test('a run in the foreground waits from before the start, and has the exit code', async () => {
    for (const [signal, exitCode] of [
      ['SIGTERM', 0],
      ['SIGKILL', 137],
    ] as const) {
      const id = `fore-${exitCode}`;
      const options = ['--rm', ...snapshotter];
      const ended = ctr.run({ image: image('hello'), id, runtime, options }).then(
        () => 0,
        (error: unknown) => {
          assert.ok(error instanceof CtrError);
          return error.exitCode;
        },
      );
      await waitFor('the task to run', async () => (await tasks()).some((task) => task.status === 'RUNNING'));
      await ctr.exec(['task', 'kill', '-s', signal, id]);
      assert.equal(await ended, exitCode);
      assert.deepEqual(await containers(), []);
    }
  });

  test('stdout and stderr of a guest come out apart', async () => {
    const port = await freePort();
    const listen = ['--net-host', '--env', `SPIN_HTTP_LISTEN_ADDR=127.0.0.1:${port}`];
    const options = ['--rm', ...listen, ...snapshotter];
    const ended = ctr.run({ image: image('rust-http'), id: 'apart', runtime, options });
    const url = `http://127.0.0.1:${port}/log?twice`;
    assert.equal((await waitFor('the app to answer', () => httpGet(url))).status, 200);
    await ctr.exec(['task', 'kill', '-s', 'SIGTERM', 'apart']);
    const { stdout, stderr } = await ended;
    assert.match(stdout, /^out twice$/m);
    assert.doesNotMatch(stdout, /err twice/);
    assert.match(stderr, /^err twice$/m);
    assert.doesNotMatch(stderr, /out twice/);
  });

  test('events: create, start, exit, delete, and exactly one exit', async () => {
    await withEvents(async (events) => {
      await detach('order', 'hello');
      const [task] = await tasks();
      await end('order');
      await events.waitFor(
        ({ topic, payload }) => topic === '/tasks/delete' && payload.container_id === 'order',
      );
      assert.deepEqual(topicsOf(events, 'order'), [
        '/tasks/create',
        '/tasks/start',
        '/tasks/exit',
        '/tasks/delete',
      ]);
      const exit = events.all.find(({ topic }) => topic === '/tasks/exit');
      assert.equal(exit?.namespace, namespace);
      assert.equal(exit?.payload.id, 'order');
      assert.equal(exit?.payload.pid, task?.pid);
      assert.equal(exit?.payload.exit_status ?? 0, 0);
      assert.match(String(exit?.payload.exited_at), /^\d{4}-/);
    });
  });

  test('a crashed engine has one exit event with 137', async () => {
    await withEvents(async (events) => {
      await detach('crash', 'hello');
      const [task] = await tasks();
      process.kill(task?.pid ?? 0, 'SIGKILL');
      const exit = await events.waitFor(({ topic }) => topic === '/tasks/exit');
      assert.equal(exit.payload.exit_status, 137);
      await waitFor('the task to be stopped', async () => (await tasks())[0]?.status === 'STOPPED');
      await ctr.exec(['task', 'rm', 'crash']).catch((error: unknown) => {
        // ctr passes the task's own exit code on.
        assert.ok(error instanceof CtrError);
        assert.equal(error.exitCode, 137);
      });
      await events.waitFor(({ topic }) => topic === '/tasks/delete');
      assert.deepEqual(topicsOf(events, 'crash'), [
        '/tasks/create',
        '/tasks/start',
        '/tasks/exit',
        '/tasks/delete',
      ]);
      // The same container, started again.
      await ctr.exec(['task', 'start', '--detach', '--null-io', 'crash']);
      assert.equal((await tasks())[0]?.status, 'RUNNING');
    });
  });

  test('a failed start has no exit event and leaves a container that can go', async () => {
    await withEvents(async (events) => {
      const options = ['--detach', '--null-io', '--env', 'SPIN_HTTP_LISTEN_ADDR=nowhere', ...snapshotter];
      await assert.rejects(
        ctr.run({ image: image('hello'), id: 'broken', runtime, options }),
        /SPIN_HTTP_LISTEN_ADDR is "nowhere"/,
      );
      assert.deepEqual(await tasks(), []);
      await ctr.exec(['containers', 'rm', 'broken']).catch(() => {});
      assert.ok(!topicsOf(events, 'broken').includes('/tasks/exit'));
    });
  });

  test('a second kill finds the process gone; a running task is not deleted', async () => {
    await detach('twice', 'hello');
    await assert.rejects(ctr.exec(['task', 'rm', 'twice']), /must be stopped|running/);
    assert.equal((await tasks())[0]?.status, 'RUNNING');
    await ctr.exec(['task', 'kill', '-s', 'SIGKILL', 'twice']);
    await waitFor('the task to stop', async () => (await tasks())[0]?.status === 'STOPPED');
    await assert.rejects(ctr.exec(['task', 'kill', '-s', 'SIGKILL', 'twice']), /not found|already finished/);
    await ctr.exec(['task', 'rm', 'twice']).catch(() => {});
    assert.deepEqual(await tasks(), []);
    await assert.rejects(ctr.exec(['task', 'kill', 'twice']), /not found/);
  });

  test('the same id runs in two namespaces at once', async () => {
    const other = node.containerd.ctr('other');
    await importApp('hello', 'other');
    await detach('same', 'hello');
    const port = await freePort();
    const options = [
      '--detach',
      '--null-io',
      '--net-host',
      '--env',
      `SPIN_HTTP_LISTEN_ADDR=127.0.0.1:${port}`,
    ];
    await other.run({ image: image('hello'), id: 'same', runtime, options: [...options, ...snapshotter] });
    assert.equal((await httpGet(`http://127.0.0.1:${port}/`)).status, 200);
    assert.equal(node.containerd.hostPids().length, 2, 'a host for each containerd namespace');
    await other.exec(['task', 'kill', '-s', 'SIGKILL', 'same']);
    await other.exec(['task', 'rm', '-f', 'same']).catch(() => {});
    await other.exec(['containers', 'rm', 'same']);
    assert.equal((await tasks())[0]?.status, 'RUNNING');
  });

  test('without --net-host the app has a network namespace of its own', async () => {
    await ctr.run({
      image: image('hello'),
      id: 'alone',
      runtime,
      options: ['--detach', '--null-io', ...snapshotter],
    });
    const [task] = await tasks();
    const script =
      'fetch("http://127.0.0.1/").then((answer) => answer.text()).then((text) => process.stdout.write(text))';
    const netns = `--net=/proc/${task?.pid}/ns/net`;
    const { stdout } = await run('nsenter', [netns, process.execPath, '-e', script], { timeout: 20_000 });
    assert.equal(stdout, 'Hello from Spin!\n');
  });

  test('pause stops the app and resume lets it go on', async () => {
    const { url } = await detach('paused', 'hello');
    await ctr.exec(['task', 'pause', 'paused']);
    assert.equal((await tasks())[0]?.status, 'PAUSED');
    await assert.rejects(httpGet(url, { timeoutMs: 300 }), /abort|timeout/i);
    await ctr.exec(['task', 'resume', 'paused']);
    assert.equal((await httpGet(url)).status, 200);
    await ctr.exec(['task', 'pause', 'paused']);
    await ctr.exec(['task', 'kill', '-s', 'SIGKILL', 'paused']);
    await waitFor('the paused task to stop', async () => (await tasks())[0]?.status === 'STOPPED');
  });

  test('a log driver takes the output and has all of it when the task is gone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spinshim-log-driver-'));
    const [driver, log] = [join(folder, 'driver'), join(folder, 'log')];
    await writeFile(driver, '#!/bin/sh\nexec 5>&-\ncat <&3 >"$2.out" &\ncat <&4 >"$2.err"\nwait\n', {
      mode: 0o755,
    });
    const port = await freePort();
    const listen = ['--net-host', '--env', `SPIN_HTTP_LISTEN_ADDR=127.0.0.1:${port}`];
    const options = ['--detach', '--log-uri', `binary://${driver}?to=${log}`, ...listen, ...snapshotter];
    await ctr.run({ image: image('js-api'), id: 'driven', runtime, options });
    const body = Array.from({ length: 5_000 }, (_, index) => `line ${index}`).join('\n');
    const answer = await httpRequest(`http://127.0.0.1:${port}/log`, { method: 'POST', body });
    assert.equal(answer.status, 200);
    await end('driven');
    for (const stream of ['out', 'err']) {
      const lines = readFileSync(`${log}.${stream}`, 'utf8').split('\n');
      assert.deepEqual(
        lines.filter((line) => line.startsWith('line ')),
        body.split('\n'),
      );
    }
    assert.match(readFileSync(`${log}.out`, 'utf8'), /^Serving http/m);
    await rm(folder, { recursive: true });
  });

  test('output without a reader holds nothing up, and its end is not waited for', async () => {
    const port = await freePort();
    const listen = ['--net-host', '--env', `SPIN_HTTP_LISTEN_ADDR=127.0.0.1:${port}`];
    await ctr.run({
      image: image('js-api'),
      id: 'unread',
      runtime,
      options: ['--detach', '--null-io', ...listen, ...snapshotter],
    });
    const body = 'x'.repeat(1024 * 1024);
    const answer = await httpRequest(`http://127.0.0.1:${port}/log`, { method: 'POST', body });
    assert.equal(answer.status, 200);
    await end('unread');
  });
});
