/**
 * What a node does with the shim, against the one containerd that is first on the PATH: `smoke.ts SHIM_FOLDER`. Writes
 * one JSON line for each check to standard output and ends with 1 when one failed. `run.ts` calls it for every line.
 * With SPINSHIM_LINES_KEEP_LOG set, containerd's log goes to standard error at the end.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseRuntimeOptions } from '../../src/containerd/options.ts';
import { cgroupFolders } from '../support/cgroups.ts';
import { PrivateContainerd } from '../support/containerd.ts';
import { releaseOf } from '../support/containerd-config.ts';
import { CriError } from '../support/cri.ts';
import type { CtrEvent } from '../support/ctr.ts';
import { httpGet } from '../support/http-get.ts';
import { mountsUnder } from '../support/mounts.ts';
import { PrivateRegistry } from '../support/registry.ts';
import { waitFor } from '../support/wait.ts';
import { imageForms, pushBrokenApp, pushFolder, pushTarImage } from './app-images.ts';
import { Checks, NotApplicable } from './checks.ts';
import { SmokeNode } from './smoke-node.ts';

const runtimeType = 'io.containerd.spin.v2';
const configPath = '/etc/spinshim/conformance.toml';

/** What the hosts of a run directory wrote of warnings and errors. */
function complaintsOfHosts(runDir: string): string[] {
  return readdirSync(runDir)
    .filter((name) => name.includes('.log'))
    .flatMap((name) => readFileSync(join(runDir, name), 'utf8').split('\n'))
    .filter((line) => / level=(?:warning|error|fatal) /.test(line));
}

/** Gone, or dead with a parent that has not asked for it yet. */
function hasEnded(pid: number): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true;
  }
}

/** What a check left that did not pass must not fail the next ones; what cannot be removed, the last check finds. */
async function removePods(): Promise<void> {
  const cri = containerd?.cri;
  for (const { id } of (await cri?.listPods().catch(() => [])) ?? []) {
    await cri?.stopPod(id).catch(() => {});
    await cri?.removePod(id).catch(() => {});
  }
}

/** What containerd and the launcher say to each other. */
async function checkLaunch(smoke: SmokeNode, checks: Checks): Promise<void> {
  const { containerd, release } = smoke;
  const { cri } = containerd;

  await checks.check('containerd starts with the handlers, no word about them in its log', async () => {
    const lines = smoke
      .complaints()
      .filter((line) => /shim-spin|spin-v2|spin-table|containerd\.spin|introspect|runtime info/i.test(line));
    assert.deepEqual(lines, []);
    const { runtime_version } = await cri.version();
    return `version ${runtime_version}`;
  });

  await checks.check('start reads its options from stdin', async () => {
    const first = await smoke.run();
    const pods = [first.pod, first.container].map((id) => {
      const bytes = readFileSync(join(smoke.bundle(id), 'options.pb'));
      return { id, bytes, options: parseRuntimeOptions(bytes, id, 'k8s.io') };
    });
    for (const { options } of pods) assert.equal(options.configPath, configPath);
    // BootstrapParams begins with the id as field 1, an Any with its type.
    const isBootstrap = pods.every(({ bytes, id }) => bytes.subarray(2, 2 + id.length).toString() === id);
    assert.equal(isBootstrap, smoke.atLeast(2, 3));
    const second = await smoke.run({ handler: 'spin-table' });
    const bytes = readFileSync(join(smoke.bundle(second.container), 'options.pb'));
    const { configBody, systemdCgroup } = parseRuntimeOptions(bytes, second.container, 'k8s.io');
    const hasTable = smoke.atLeast(1, 7);
    assert.equal(systemdCgroup, hasTable ? false : undefined);
    assert.equal(configBody !== undefined, hasTable);
    await smoke.remove(first);
    await smoke.remove(second);
    return `${isBootstrap ? 'BootstrapParams' : 'Any'}; the options table ${hasTable ? 'came as TOML' : 'is not passed on'}`;
  });

  await checks.check('the answer of start is taken and kept for a restart', async () => {
    const running = await smoke.run();
    const seen: string[] = [];
    for (const id of [running.pod, running.container]) {
      const address = readFileSync(join(smoke.bundle(id), 'address'), 'utf8');
      assert.match(address, /^unix:\/\/\/\S+\.sock$/);
      const kept = join(smoke.bundle(id), 'bootstrap.json');
      assert.equal(existsSync(kept), release.major >= 2);
      if (!existsSync(kept)) continue;
      const bootstrap = JSON.parse(readFileSync(kept, 'utf8')) as Record<string, unknown>;
      assert.equal(bootstrap.address, address);
      assert.equal(bootstrap.protocol, 'ttrpc');
      assert.equal(bootstrap.version, 2);
      seen.push('bootstrap.json');
    }
    await smoke.remove(running);
    return seen.length === 0 ? 'address' : 'address, bootstrap.json';
  });
}

/** Every way to put an app into an image. */
async function checkImages(smoke: SmokeNode, checks: Checks): Promise<void> {
  const { release } = smoke;
  const { cri } = smoke.containerd;

  for (const form of imageForms) {
    await checks.check(`image: ${form.name}`, async () => {
      const reference = await form.push(smoke.registry);
      const known = form.taken(release);
      try {
        await cri.pull(reference);
        const running = await smoke.run({ image: reference, command: form.command ?? [] });
        await smoke.remove(running);
      } catch (error) {
        if (known || !(error instanceof CriError)) throw error;
        throw new NotApplicable(`containerd refuses it: ${error.method}: ${error.details}`);
      }
      return known ? 'pulled, HTTP 200' : 'pulled, HTTP 200, though this line was thought to refuse it';
    });
  }
}

/** A pod's life as kubelet sees it. */
async function checkLife(smoke: SmokeNode, checks: Checks): Promise<void> {
  const { containerd } = smoke;
  const { cri } = containerd;

  await checks.check('logs', async () => {
    const running = await smoke.run();
    const text = readFileSync((await cri.status(running.container)).log_path, 'utf8');
    const [line] = /^\S+ (?:stdout|stderr) F \S.*$/m.exec(text) ?? [];
    assert.ok(line !== undefined, text);
    await smoke.remove(running);
    return line;
  });

  await checks.check('stats through CRI', async () => {
    const running = await smoke.run();
    const stats = await waitFor('stats of the container', async () => {
      const [found] = await cri.listStats(running.pod);
      return (found?.memory?.working_set_bytes?.value ?? 0) > 0 && found;
    });
    const cpu = stats.cpu?.usage_core_nano_seconds?.value ?? 0;
    assert.ok(cpu > 0);
    if (smoke.atLeast(2, 3)) {
      // Polled by containerd itself, each second: the time of the sample moves on without our asking.
      const time = stats.cpu?.timestamp ?? 0;
      const later = async () => ((await cri.listStats(running.pod))[0]?.cpu?.timestamp ?? 0) > time + 2e9;
      await waitFor('three polls', later, { intervalMs: 300 });
    }
    const single = await cri.stats(running.container);
    assert.equal(single.attributes.id, running.container);
    await smoke.remove(running);
    return `${((stats.memory?.working_set_bytes?.value ?? 0) / 2 ** 20).toFixed(0)} MiB, ${(cpu / 1e6).toFixed(0)} ms CPU`;
  });

  await checks.check('ends with exit code 0, events in order', async () => {
    const events = await containerd.ctr().events();
    try {
      const running = await smoke.run();
      await cri.stop(running.container, 10);
      const status = await cri.status(running.container);
      assert.deepEqual([status.state, status.exit_code, status.reason], ['CONTAINER_EXITED', 0, 'Completed']);
      await cri.remove(running.container);
      await cri.stopPod(running.pod);
      await cri.removePod(running.pod);
      const topics: string[] = [];
      for (const id of [running.container, running.pod]) {
        const own = (event: CtrEvent) =>
          event.payload.container_id === id && event.topic.startsWith('/tasks/');
        await events.waitFor((event) => own(event) && event.topic === '/tasks/delete');
        topics.push(...events.all.filter(own).map(({ topic }) => topic.slice('/tasks/'.length)));
      }
      const order = ['create', 'start', 'exit', 'delete'];
      assert.deepEqual(topics, [...order, ...order]);
      assert.ok(!existsSync(smoke.bundle(running.pod)) && !existsSync(smoke.bundle(running.container)));
      return order.join(', ');
    } finally {
      await events.stop();
    }
  });

  await checks.check('a failed start tells its reason', async () => {
    const reference = await pushBrokenApp(smoke.registry);
    await cri.pull(reference);
    const pod = await containerd.runPod({ name: 'broken', runtimeHandler: 'spin-v2' });
    const container = await cri.createContainer(pod, { image: reference });
    const error = await cri.start(container).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof CriError, 'it did not fail');
    assert.match(error.details, /hello\.wasm/);
    const log = readFileSync((await cri.status(container)).log_path, 'utf8');
    assert.match(log, /hello\.wasm/);
    await cri.remove(container);
    await cri.stopPod(pod);
    await cri.removePod(pod);
    return error.details;
  });
}

/** Pods whose root is nobody on the node. */
async function checkUserNamespace(smoke: SmokeNode, checks: Checks): Promise<void> {
  const { containerd, image } = smoke;
  const { cri } = containerd;

  await checks.check('a pod in a user namespace, with a volume of its root', async () => {
    if (!(await cri.takesUserNamespaces('spin-plain')))
      throw new NotApplicable('the handler is not said to take them');
    assert.equal(await cri.takesUserNamespaces('spin-v2'), false, 'with options containerd fails');
    const userNamespace = { hostId: 1_000_000, length: 65_536 };
    const volume = join(containerd.folder, 'volume-of-root');
    mkdirSync(volume);
    writeFileSync(join(volume, 'note'), 'of root', { mode: 0o600 });
    const pod = await containerd.runPod({
      name: 'mapped',
      runtimeHandler: 'spin-plain',
      userNamespace,
      annotations: { 'spin.shim/files': 'hello:/volume' },
    });
    const container = await cri.createContainer(pod, {
      image,
      mounts: [{ hostPath: volume, containerPath: '/volume' }],
    });
    await cri.start(container);
    const ip = await cri.podIp(pod);
    await smoke.answers(ip);
    const pid = await smoke.pid(container);
    const [, uid] = /^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    assert.equal(Number(uid), userNamespace.hostId);
    const { stdout, stderr } = await cri.execSync(container, ['cat', '/volume/note']);
    assert.deepEqual([stdout.toString(), stderr.toString()], ['of root', '']);
    await cri.stop(container, 5);
    assert.equal((await cri.status(container)).exit_code, 0);
    await smoke.remove({ pod, container, ip });
    return `uid ${uid} on the node reads a file of the node's root`;
  });
}

/** Restarts, deaths, and what they leave. */
async function checkFaults(smoke: SmokeNode, checks: Checks): Promise<void> {
  const { containerd } = smoke;
  const { cri } = containerd;

  await checks.check('pods live through a restart of containerd, orderly and not', async () => {
    const running = await smoke.run();
    const before = { pids: containerd.hostPids(), length: readFileSync(containerd.logFile).length };
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await containerd.kill(signal);
      assert.equal((await httpGet(`http://${running.ip}/`)).status, 200);
      await containerd.restart();
      assert.equal((await cri.podStatus(running.pod)).state, 'SANDBOX_READY');
      assert.equal((await cri.status(running.container)).state, 'CONTAINER_RUNNING');
      await smoke.answers(running.ip);
    }
    assert.deepEqual(containerd.hostPids(), before.pids);
    const said = smoke.complaints(before.length).filter((line) => /shim |leaked|clean/i.test(line));
    assert.deepEqual(said, []);
    assert.ok((await cri.stats(running.container)).cpu !== null);
    await cri.stop(running.container, 10);
    assert.equal((await cri.status(running.container)).exit_code, 0);
    await cri.remove(running.container);
    await cri.stopPod(running.pod);
    await cri.removePod(running.pod);
    return 'same host, both reconnected, exit code 0 afterwards';
  });

  await checks.check('an exit while containerd is away is learned at its return', async () => {
    const running = await smoke.run();
    const pid = await smoke.pid(running.container);
    await containerd.stop();
    process.kill(pid, 'SIGTERM');
    await waitFor('the engine to end', () => !existsSync(`/proc/${pid}`));
    await containerd.restart();
    const status = await waitFor('the exit', async () => {
      const found = await cri.status(running.container);
      return found.state === 'CONTAINER_EXITED' && found;
    });
    assert.equal(status.exit_code, 0);
    await smoke.remove(running);
    return `exit code ${status.exit_code}, ${status.reason}`;
  });

  await checks.check('a killed host: containerd cleans up, new pods run', async () => {
    const running = await smoke.run();
    const [host] = containerd.hostPids();
    assert.ok(host !== undefined);
    process.kill(host, 'SIGKILL');
    const status = await waitFor('the container to be seen as ended', async () => {
      const found = await cri.status(running.container);
      return found.state === 'CONTAINER_EXITED' && found;
    });
    await waitFor('the pod to be not ready', async () => {
      return (await cri.podStatus(running.pod)).state === 'SANDBOX_NOTREADY';
    });
    const left = () =>
      cgroupFolders(containerd.cgroupParent).filter((folder) => folder.endsWith(running.container));
    await waitFor('its cgroups to go', () => left().length === 0);
    await smoke.remove(running);
    const next = await smoke.run();
    assert.notEqual(containerd.hostPids()[0], host);
    await smoke.remove(next);
    return `exit code ${status.exit_code}, ${status.reason}`;
  });

  await checks.check('ctr run, metrics, ps, kill; a namespace of its own', async () => {
    const ctr = containerd.ctr('conformance');
    // 1.6's ctr unpacks by another way than its CRI, and that one wants ordinary layers alone.
    const image = smoke.atLeast(1, 7) ? smoke.image : await pushTarImage(smoke.registry);
    await ctr.exec(['images', 'pull', '--plain-http', '--snapshotter', containerd.snapshotter, image]);
    const options = [
      '--detach',
      '--snapshotter',
      containerd.snapshotter,
      '--env',
      'SPIN_HTTP_LISTEN_ADDR=127.0.0.1:0',
      '--net-host',
    ];
    await ctr.run({ image, id: 'one', runtime: runtimeType, options });
    const list = await ctr.exec(['tasks', 'ls']);
    assert.match(list.stdout, /one\s+\d+\s+RUNNING/);
    const metrics = await ctr.exec(['tasks', 'metrics', 'one']);
    assert.match(metrics.stdout, /memory\.\S+\s+\d+/);
    const processes = await ctr.exec(['tasks', 'ps', 'one']);
    assert.match(processes.stdout, /^\d+/m);
    assert.equal(containerd.hostPids().length, 2);
    await ctr.exec(['tasks', 'kill', '--signal', 'SIGTERM', 'one']);
    await waitFor('the task to stop', async () =>
      (await ctr.exec(['tasks', 'ls'])).stdout.includes('STOPPED'),
    );
    await ctr.exec(['tasks', 'delete', 'one']);
    await ctr.exec(['containers', 'delete', 'one']);
    return 'a second host serves the second namespace';
  });

  await checks.check('nothing is left', async () => {
    const tasks = join(containerd.state, 'io.containerd.runtime.v2.task');
    const bundles = existsSync(tasks)
      ? readdirSync(tasks).flatMap((name) => readdirSync(join(tasks, name)))
      : [];
    assert.deepEqual(bundles, []);
    assert.deepEqual(mountsUnder(containerd.state), []);
    const cgroups = cgroupFolders(containerd.cgroupParent).filter((folder) => /\/[0-9a-f]{64}$/.test(folder));
    assert.deepEqual(cgroups, []);
    return 'no bundle, mount or cgroup';
  });
}

const [shimDir] = process.argv.slice(2);
if (shimDir === undefined || !existsSync(join(shimDir, 'containerd-shim-spin-v2'))) {
  throw new Error(`no containerd-shim-spin-v2 in "${shimDir}": give the folder it is in`);
}
let containerd: PrivateContainerd | undefined;
const checks = new Checks((result) => process.stdout.write(`${JSON.stringify(result)}\n`), removePods);
const release = releaseOf();
const registry = await PrivateRegistry.start();
try {
  containerd = await PrivateContainerd.start({
    shimDir,
    registries: [registry.host],
    runtimes: [
      { name: 'spin-v2', type: runtimeType, options: [`ConfigPath = ${JSON.stringify(configPath)}`] },
      { name: 'spin-table', type: runtimeType, options: ['SystemdCgroup = false'] },
      { name: 'spin-plain', type: runtimeType, podAnnotations: ['spin.shim/*'] },
    ],
  });
  const node = containerd;
  try {
    const image = await pushFolder(registry, 'universal');
    await node.cri.pull(image);
    const smoke = new SmokeNode(node, registry, release, image);
    for (const group of [checkLaunch, checkImages, checkLife, checkUserNamespace, checkFaults])
      await group(smoke, checks);
  } finally {
    const { SPINSHIM_LINES_KEEP_LOG: keep } = process.env;
    if (keep !== undefined) process.stderr.write(readFileSync(node.logFile));
    await checks.check('hosts had nothing to complain of', async () => {
      const said = complaintsOfHosts(node.runDir);
      // The app that is broken on purpose.
      assert.deepEqual(
        said.filter((line) => !line.includes('hello.wasm')),
        [],
      );
      return `${said.length} lines, about the broken app`;
    });
    await checks.check('hosts end when they are told to and no task is left', async () => {
      const hosts = node.hostPids();
      for (const pid of hosts) process.kill(pid, 'SIGTERM');
      await waitFor('the hosts to end', () => hosts.every(hasEnded));
      return `${hosts.length} ended`;
    });
    await checks.check('the node is clean afterwards', async () => {
      const { failures, killed, unmounted } = await node.cleanup();
      assert.deepEqual({ failures, killed, unmounted }, { failures: [], killed: [], unmounted: [] });
      return 'nothing had to be ended or unmounted by force';
    });
  }
} finally {
  await registry.stop();
}
if (checks.results.some(({ outcome }) => outcome === 'fail')) process.exitCode = 1;
