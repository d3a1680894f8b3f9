import type { SampleApp } from '../test/support/apps.ts';
import { httpGet } from '../test/support/http-get.ts';
import { httpImage } from '../test/support/images.ts';
import { Pod } from '../test/support/pod.ts';
import { SpinNode } from '../test/support/spin-node.ts';
import { waitFor } from '../test/support/wait.ts';

/** Name of the image with the C server that the Linux containers run. */
const httpName = 'spinshim.test/http:1';

/** What a pod of a benchmark runs: a Spin app, or a C program that serves HTTP under runc. */
export type Subject = 'runc' | SampleApp;

/** The private containerd, registry and images of a benchmark run. */
export class BenchNode {
  readonly spin: SpinNode;
  readonly #signal: AbortSignal;

  private constructor(spin: SpinNode, signal: AbortSignal) {
    this.spin = spin;
    this.#signal = signal;
  }

  static async start(signal: AbortSignal, apps: readonly SampleApp[]): Promise<BenchNode> {
    const spin = await SpinNode.start(apps);
    await spin.import(await httpImage(), httpName);
    return new BenchNode(spin, signal);
  }

  /** Starts a pod of its own address and waits for its first 200. Throws when the benchmark is to end. */
  async podAnswering(subject: Subject, name: string): Promise<Pod> {
    const pod = await this.startPod(subject, name);
    await this.firstAnswerOf(pod);
    return pod;
  }

  /** Calls RunPodSandbox, CreateContainer and StartContainer, and PodSandboxStatus for the address, as kubelet does. */
  startPod(subject: Subject, name: string): Promise<Pod> {
    this.#signal.throwIfAborted();
    return Pod.run(this.spin.containerd, { name, ...this.#whatToRun(subject) });
  }

  firstAnswerOf({ ip }: Pod): Promise<void> {
    return firstAnswer(`http://${ip}:80/`);
  }

  /** Starts a pod in the node's network that listens on a loopback port. */
  async podOnLoopback(
    subject: Subject,
    name: string,
    port: number,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Pod> {
    this.#signal.throwIfAborted();
    const envs = { PORT: String(port), SPIN_HTTP_LISTEN_ADDR: `127.0.0.1:${port}`, ...environment };
    const pod = await Pod.run(this.spin.containerd, {
      name,
      ...this.#whatToRun(subject),
      pod: { hostNetwork: true },
      container: { envs },
    });
    await firstAnswer(`http://127.0.0.1:${port}/`);
    return pod;
  }

  throwIfEnded(): void {
    this.#signal.throwIfAborted();
  }

  stop(): Promise<void> {
    return this.spin.stop();
  }

  #whatToRun(subject: Subject): { readonly image: string; readonly runtimeHandler: string } {
    return subject === 'runc'
      ? { image: httpName, runtimeHandler: 'runc' }
      : { image: this.spin.image(subject), runtimeHandler: 'spin-v2' };
  }
}

/** Asks until there is an answer; any status but a server error counts, since `/` is not a route of every app. */
async function firstAnswer(url: string): Promise<void> {
  const answered = async (): Promise<boolean> => (await httpGet(url)).status < 500;
  await waitFor(`${url} to answer`, answered, { intervalMs: 1 });
}
