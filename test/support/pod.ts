import type { PrivateContainerd } from './containerd.ts';
import type { ContainerInput, ContainerStatus, PodInput } from './cri.ts';
import { type HttpAnswer, type HttpOptions, httpRequest } from './http-get.ts';
import { waitFor } from './wait.ts';

export type PodRunInput = {
  readonly name: string;
  readonly image: string;
  /** Default `spin-v2`. */
  readonly runtimeHandler?: string;
  /** Default 80. */
  readonly port?: number;
  readonly pod?: Partial<PodInput>;
  readonly container?: Partial<ContainerInput>;
};

/** A pod with one container, made and driven through CRI as kubelet does. */
export class Pod {
  readonly id: string;
  readonly name: string;
  /** Address in the pod's network; empty in the host's. */
  readonly ip: string;
  readonly port: number;
  readonly #containerd: PrivateContainerd;
  readonly #input: PodRunInput;
  #containerId = '';
  #attempt = 0;

  private constructor(containerd: PrivateContainerd, input: PodRunInput, id: string, ip: string) {
    this.id = id;
    this.ip = ip;
    this.name = input.name;
    this.port = input.port ?? 80;
    this.#containerd = containerd;
    this.#input = input;
  }

  /** Starts the sandbox and creates the container, but does not start that one. */
  static async create(containerd: PrivateContainerd, input: PodRunInput): Promise<Pod> {
    const { name, runtimeHandler = 'spin-v2' } = input;
    const id = await containerd.runPod({ name, runtimeHandler, ...input.pod });
    const ip = (await containerd.cri.podStatus(id)).network?.ip ?? '';
    const pod = new Pod(containerd, input, id, ip);
    await pod.#createContainer();
    return pod;
  }

  /** Starts a pod and its container; a Spin container listens when this returns. */
  static async run(containerd: PrivateContainerd, input: PodRunInput): Promise<Pod> {
    const pod = await Pod.create(containerd, input);
    await pod.start();
    return pod;
  }

  /** Id of the newest container. */
  get containerId(): string {
    return this.#containerId;
  }

  start(): Promise<void> {
    return this.#containerd.cri.start(this.#containerId);
  }

  /** What kubelet does about a container that ended: the next attempt in the same pod. */
  async restart(): Promise<void> {
    this.#attempt++;
    await this.#createContainer();
    await this.start();
  }

  /** One request to the pod's own address. */
  request(path: string, options: HttpOptions = {}): Promise<HttpAnswer> {
    return httpRequest(`http://${this.ip}:${this.port}${path}`, options);
  }

  /** Container log in CRI's format, of the newest attempt unless told otherwise. */
  log(attempt = this.#attempt): string {
    return this.#containerd.containerLog(this.name, this.#input.container?.name, { attempt });
  }

  /** Waits for a whole line on one of the streams. */
  waitForLog(stream: 'stdout' | 'stderr', line: string | RegExp): Promise<string> {
    const fits = (text: string): boolean => (typeof line === 'string' ? text === line : line.test(text));
    const find = (): string | undefined => logLines(this.log(), stream).find(fits);
    return waitFor(`"${line}" on ${stream}`, find, { explain: () => this.log() });
  }

  status(): Promise<ContainerStatus> {
    return this.#containerd.cri.status(this.#containerId);
  }

  /** Waits until CRI knows that the container has ended. */
  ended(): Promise<ContainerStatus> {
    return waitFor('the container to end', async () => {
      const status = await this.status();
      return status.state === 'CONTAINER_EXITED' && status;
    });
  }

  /** Pid that the shim reported for the container: an engine's. */
  async pid(): Promise<number> {
    const { info } = await this.#containerd.cri.verboseStatus(this.#containerId);
    const { pid } = JSON.parse(info ?? '{}') as { pid?: number };
    if (pid === undefined || pid === 0) throw new Error(`container "${this.#containerId}" has no pid`);
    return pid;
  }

  /** @param timeoutSec seconds between SIGTERM and SIGKILL; 0 sends SIGKILL at once */
  stop(timeoutSec = 10): Promise<void> {
    return this.#containerd.cri.stop(this.#containerId, timeoutSec);
  }

  /** Stops and removes containers and pod. */
  async remove(): Promise<void> {
    await this.#containerd.cri.stopPod(this.id);
    await this.#containerd.cri.removePod(this.id);
  }

  async #createContainer(): Promise<void> {
    const { image, container } = this.#input;
    const input = { image, attempt: this.#attempt, ...container };
    this.#containerId = await this.#containerd.cri.createContainer(this.id, input);
  }
}

/** The lines of one stream of a log in CRI's format; lines that were split for their length are whole again. */
export function logLines(log: string, stream: 'stdout' | 'stderr'): string[] {
  const lines: string[] = [];
  let open = '';
  for (const entry of log.split('\n')) {
    const [, name, flag] = entry.split(' ', 3);
    if (name !== stream || flag === undefined) continue;
    open += entry.slice(entry.indexOf(` ${name} ${flag} `) + name.length + flag.length + 3);
    if (flag === 'P') continue;
    lines.push(open);
    open = '';
  }
  return lines;
}
