import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { quietFootprint } from './support/footprint.ts';
import { HostHeap, inspectedNode } from './support/host-heap.ts';
import { buildImage } from './support/images.ts';
import { Pod } from './support/pod.ts';
import { importMixedImages, mixedImages, startSidecar } from './support/sidecar.ts';
import { SpinNode } from './support/spin-node.ts';
import { suiteTimeoutMs } from './support/wait.ts';

/** Runs of a kind before counting: code is compiled and pools are filled by the first ones. */
const firstRuns = 6;

describe('the objects of a host', { timeout: suiteTimeoutMs }, () => {
  let folder: string;
  let node: SpinNode;
  let resident: Pod;
  let heap: HostHeap;
  let names = 0;

  const run = (image: string): Promise<Pod> =>
    Pod.run(node.containerd, { name: `pod-${names++}`, image, pod: { namespace: 'memory' } });

  /** What is there when nothing is under way: live objects of the host by class, and its descriptors. */
  async function atRest(): Promise<ReadonlyMap<string, number>> {
    const { hostDescriptors } = await quietFootprint(node.containerd, 1);
    const descriptors = Object.values(hostDescriptors).reduce((sum, count) => sum + count, 0);
    return new Map([...(await heap.objects()), ['descriptors', descriptors]]);
  }

  /**
   * Does a thing `count` times, two at once. What each of them left behind would show as so many more of a kind; what one
   * in two left, too.
   */
  async function assertNothingKept(count: number, once: () => Promise<void>): Promise<void> {
    const repeat = async (times: number): Promise<void> => {
      let left = times;
      const lane = async (): Promise<void> => {
        while (left-- > 0) await once();
      };
      await Promise.all([lane(), lane()]);
    };
    await repeat(firstRuns);
    const before = await atRest();
    await repeat(count);
    const now = await atRest();
    const kept = [...now].map(([what, many]) => ({ what, more: many - (before.get(what) ?? 0) }));
    assert.deepEqual(
      kept.filter(({ more }) => more >= count / 2),
      [],
    );
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spinshim-heap-'));
    const program = inspectedNode(folder);
    node = await SpinNode.start([], { env: { SPINSHIM_NODE: program } });
    await importMixedImages(node.containerd);
    resident = await run(mixedImages.app);
    heap = await HostHeap.connect(program);
  });
  after(async () => {
    heap.close();
    await node.removePods();
    await node.stop();
    await rm(folder, { recursive: true });
  });

  test('go with pods of an app', async () => {
    await assertNothingKept(20, async () => {
      const pod = await run(mixedImages.app);
      assert.equal((await pod.request('/')).status, 200);
      await pod.remove();
    });
  });

  test('go with pods that have a Linux container, too', async () => {
    await assertNothingKept(8, async () => {
      const pod = await run(mixedImages.app);
      const sidecar = await startSidecar(node.containerd, pod.id, 'sidecar', ['wait']);
      assert.equal((await node.cri.execSync(sidecar, ['/bin/sidecar', 'fetch', '80', '/'])).exitCode, 0);
      await pod.remove();
    });
  });

  test('go with apps that are refused', async () => {
    const files = new Map([['spin.toml', { content: 'spin_manifest_version = 9' }]]);
    const refused = await node.import(
      await buildImage({ files, entrypoint: ['/spin.toml'] }),
      'spinshim.test/refused:1',
    );
    await assertNothingKept(8, async () => {
      const pod = await Pod.create(node.containerd, { name: `refused-${names++}`, image: refused });
      await assert.rejects(pod.start(), /spin_manifest_version/);
      await pod.remove();
    });
  });

  test('go with commands in a container, and with questions about it', async () => {
    await assertNothingKept(30, async () => {
      assert.equal((await node.cri.execSync(resident.containerId, ['true'])).exitCode, 0);
      await node.cri.stats(resident.containerId);
    });
  });
});
