import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PrivateContainerd } from '../support/containerd.ts';
import type { Release } from '../support/containerd-config.ts';
import { httpGet } from '../support/http-get.ts';
import type { PrivateRegistry } from '../support/registry.ts';
import { waitFor } from '../support/wait.ts';

const greeting = 'Hello from Spin!';

export type RunningPod = { readonly pod: string; readonly container: string; readonly ip: string };

/** The node under test, and the steps that several checks share. */
export class SmokeNode {
  readonly containerd: PrivateContainerd;
  readonly registry: PrivateRegistry;
  readonly release: Release;
  readonly image: string;
  #count = 0;

  constructor(containerd: PrivateContainerd, registry: PrivateRegistry, release: Release, image: string) {
    this.containerd = containerd;
    this.registry = registry;
    this.release = release;
    this.image = image;
  }

  atLeast(major: number, minor: number): boolean {
    return this.release.major > major || (this.release.major === major && this.release.minor >= minor);
  }

  bundle(id: string, namespace = 'k8s.io'): string {
    return join(this.containerd.state, 'io.containerd.runtime.v2.task', namespace, id);
  }

  /** A pod with one container of an image, answering HTTP. */
  async run({
    handler = 'spin-v2',
    image = this.image,
    command = [] as readonly string[],
  } = {}): Promise<RunningPod> {
    const { cri } = this.containerd;
    this.#count += 1;
    const pod = await this.containerd.runPod({ name: `pod-${this.#count}`, runtimeHandler: handler });
    const container = await cri.createContainer(pod, { image, command });
    await cri.start(container);
    const ip = await cri.podIp(pod);
    await this.answers(ip);
    return { pod, container, ip };
  }

  /** One answer within the time, with the right body. */
  async answers(ip: string): Promise<void> {
    const { status, text } = await waitFor('the pod to answer', () => httpGet(`http://${ip}/`));
    assert.equal(status, 200, text);
    assert.match(text, new RegExp(greeting));
  }

  /** Pid of a container's engine on the node. */
  async pid(container: string): Promise<number> {
    const { info = '{}' } = await this.containerd.cri.verboseStatus(container);
    return (JSON.parse(info) as { readonly pid: number }).pid;
  }

  async remove({ pod, container }: RunningPod): Promise<void> {
    const { cri } = this.containerd;
    await cri.stop(container, 5);
    await cri.remove(container);
    await cri.stopPod(pod);
    await cri.removePod(pod);
  }

  /** Lines of containerd's log from a place on that tell of warnings and errors. */
  complaints(from = 0): string[] {
    const text = readFileSync(this.containerd.logFile).subarray(from).toString('utf8');
    return text.split('\n').filter((line) => /level=(warning|error|fatal|panic)/.test(line));
  }
}
