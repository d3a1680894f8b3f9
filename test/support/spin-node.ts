import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pullSampleApp, type SampleApp } from './apps.ts';
import { type ContainerdOptions, PrivateContainerd } from './containerd.ts';
import { leftovers } from './footprint.ts';
import { importImage, type OciImage } from './images.ts';
import { Pod, type PodRunInput } from './pod.ts';
import { PrivateRegistry } from './registry.ts';
import { type Shim, shimUnderTest } from './shim.ts';

/** Bytes of the host's log shown with a failure. */
const hostLogTailBytes = 4_096;

/** A node for a test file: a registry, a private containerd with our shim, and sample apps pulled into it. */
export class SpinNode {
  readonly shim: Shim;
  readonly registry: PrivateRegistry;
  readonly containerd: PrivateContainerd;
  readonly #images = new Map<SampleApp, string>();

  private constructor(shim: Shim, registry: PrivateRegistry, containerd: PrivateContainerd) {
    this.shim = shim;
    this.registry = registry;
    this.containerd = containerd;
  }

  static async start(
    apps: readonly SampleApp[] = ['hello'],
    { env, ...options }: ContainerdOptions = {},
  ): Promise<SpinNode> {
    const shim = shimUnderTest();
    const registry = await PrivateRegistry.start();
    try {
      const containerd = await PrivateContainerd.start({
        ...shim.containerd,
        ...options,
        env: { ...shim.containerd.env, ...env },
      });
      const node = new SpinNode(shim, registry, containerd);
      try {
        for (const app of apps) node.#images.set(app, await pullSampleApp(shim, registry, containerd, app));
        return node;
      } catch (error) {
        await containerd.cleanup();
        throw error;
      }
    } catch (error) {
      await registry.stop();
      throw error;
    }
  }

  get cri(): PrivateContainerd['cri'] {
    return this.containerd.cri;
  }

  /** Reference under which a sample app was pulled. */
  image(app: SampleApp): string {
    const image = this.#images.get(app);
    if (image === undefined) throw new Error(`sample app "${app}" was not asked for at the start`);
    return image;
  }

  run(input: PodRunInput): Promise<Pod> {
    return Pod.run(this.containerd, input);
  }

  create(input: PodRunInput): Promise<Pod> {
    return Pod.create(this.containerd, input);
  }

  async import(image: OciImage, name: string): Promise<string> {
    await importImage(this.containerd, image, name);
    return name;
  }

  /** Stops and removes every pod but those to keep, also those that a failed test has left. */
  async removePods(keep: readonly Pod[] = []): Promise<void> {
    for (const { id } of await this.cri.listPods()) {
      if (keep.some((pod) => pod.id === id)) continue;
      await this.cri.stopPod(id);
      await this.cri.removePod(id);
    }
  }

  /** The one shim host; fails when there is none or more than one. */
  hostPid(): number {
    const [pid, ...others] = this.containerd.hostPids();
    assert.ok(pid !== undefined && others.length === 0, `shim hosts: ${[pid, ...others].join(', ')}`);
    return pid;
  }

  /** The end of the shim host's own log. */
  hostLog(): string {
    const { runDir } = this.containerd;
    const logs = readdirSync(runDir).filter((name) => name.endsWith('.log'));
    return logs.map((name) => readFileSync(join(runDir, name), 'utf8').slice(-hostLogTailBytes)).join('\n');
  }

  /** Ends everything; fails unless all of it ended in order and nothing of it is left on the machine. */
  async stop(): Promise<void> {
    const log = this.hostLog();
    try {
      const report = await this.containerd.cleanup();
      assert.deepEqual(report, { killed: [], unmounted: [], failures: [] }, log);
    } finally {
      await this.registry.stop();
    }
    assert.deepEqual(leftovers(this.containerd), []);
  }
}
