/**
 * One node whose containerd is upgraded while its pods run: `upgrade.ts SHIM_FOLDER BIN_FOLDER …`, oldest first, an
 * empty BIN_FOLDER standing for the PATH. Writes one JSON line for each step to standard output.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { PrivateContainerd } from '../support/containerd.ts';
import { containerdConfig, containerdPaths, releaseOf } from '../support/containerd-config.ts';
import { httpGet } from '../support/http-get.ts';
import { PrivateRegistry } from '../support/registry.ts';
import { waitFor } from '../support/wait.ts';
import { pushFolder } from './app-images.ts';
import { Checks } from './checks.ts';

const [shimDir, first, ...later] = process.argv.slice(2);
if (shimDir === undefined || first === undefined)
  throw new Error('give SHIM_FOLDER and the folders of containerds');
const ownPath = process.env.PATH ?? '/usr/bin:/bin';
const onPath = (folder: string): void => {
  process.env.PATH = folder === '' ? ownPath : `${folder}:${ownPath}`;
};
const runtimes = [
  { name: 'runc', type: 'io.containerd.runc.v2' },
  { name: 'spin-v2', type: 'io.containerd.spin.v2' },
];
const checks = new Checks(
  (result) => process.stdout.write(`${JSON.stringify(result)}\n`),
  async () => {},
);
onPath(first);
const registry = await PrivateRegistry.start();
try {
  const node = await PrivateContainerd.start({ shimDir, registries: [registry.host], runtimes });
  const { cri } = node;
  const start = async (name: string) => {
    const pod = await node.runPod({ name, runtimeHandler: 'spin-v2' });
    const container = await cri.createContainer(pod, { image });
    await cri.start(container);
    return { pod, container, ip: await cri.podIp(pod) };
  };
  const works = async ({ pod, container, ip }: Awaited<ReturnType<typeof start>>) => {
    assert.equal((await cri.podStatus(pod)).state, 'SANDBOX_READY');
    assert.equal((await cri.status(container)).state, 'CONTAINER_RUNNING');
    const { status } = await waitFor('the pod to answer', () => httpGet(`http://${ip}/`));
    assert.equal(status, 200);
    const [stats] = await waitFor('stats', async () => {
      const found = await cri.listStats(pod);
      return (found[0]?.cpu?.usage_core_nano_seconds?.value ?? 0) > 0 && found;
    });
    assert.equal(stats?.attributes.id, container);
  };
  const image = await pushFolder(registry, 'universal');
  try {
    await cri.pull(image);
    const pods = [await start('oldest')];
    const host = node.hostPids();
    const upgrade = async (folder: string) => {
      await node.stop();
      onPath(folder);
      const { folder: home, snapshotter } = node;
      const input = {
        folder: home,
        snapshotter,
        sandboxImage: 'spinshim.test/pause:1',
        runtimes,
        debug: false,
        nri: false,
        extra: '',
      };
      await writeFile(containerdPaths(home).config, containerdConfig(input));
      await node.restart();
    };
    for (const folder of later) {
      const from = await cri.version();
      const { major, minor } = releaseOf(folder === '' ? 'containerd' : `${folder}/containerd`);
      await checks.check(`pods of older lines live on under ${major}.${minor}`, async () => {
        await upgrade(folder);
        const to = await cri.version();
        for (const pod of pods) await works(pod);
        pods.push(await start(`under-${major}-${minor}`));
        for (const pod of pods) await works(pod);
        assert.deepEqual(node.hostPids(), host);
        return `${from.runtime_version} to ${to.runtime_version}, ${pods.length} pods, one host`;
      });
    }
    await checks.check('all of them end with exit code 0', async () => {
      for (const { pod, container } of pods) {
        await cri.stop(container, 10);
        assert.equal((await cri.status(container)).exit_code, 0);
        await cri.stopPod(pod);
        await cri.removePod(pod);
      }
      return `${pods.length} pods`;
    });
  } finally {
    await node.cleanup();
  }
} finally {
  await registry.stop();
}
if (checks.results.some(({ outcome }) => outcome === 'fail')) process.exitCode = 1;
