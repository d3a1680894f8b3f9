import type { Bundle } from './bundle.ts';
import { Sandbox } from './sandbox.ts';
import { roleOf, SandboxRegistry } from './sandbox-registry.ts';
import { SpinContainer, type SpinRuntime } from './spin-container.ts';
import type { TaskStdio } from './stdio.ts';
import type { RootMount, Workload } from './workload.ts';

export type WorkloadRequest = {
  readonly id: string;
  readonly bundle: Bundle;
  readonly rootMounts: readonly RootMount[];
  readonly stdio: TaskStdio;
  /** Gives up creating it. */
  readonly signal: AbortSignal;
};

/** Makes the workload that a container's annotations ask for, and knows the pods. */
export class WorkloadFactory {
  readonly #runtime: SpinRuntime;
  readonly #launcher: string;
  readonly #sandboxes = new SandboxRegistry();

  constructor(runtime: SpinRuntime, launcher: string) {
    this.#runtime = runtime;
    this.#launcher = launcher;
  }

  make(request: WorkloadRequest): Workload {
    const { id, bundle, rootMounts, stdio, signal } = request;
    const role = roleOf(bundle.spec);
    if (role.kind === 'sandbox') return new Sandbox(id, bundle, this.#launcher, this.#runtime.log);
    const network = this.#sandboxes.networkFor(bundle.spec, role.sandboxId);
    return new SpinContainer(this.#runtime, { id, bundle, rootMounts, network, stdio, signal });
  }

  /** Notes that a workload lives: a sandbox's namespaces are there to be joined from now on. */
  created(id: string, bundle: Bundle, pid: number): void {
    if (roleOf(bundle.spec).kind === 'sandbox') this.#sandboxes.add(id, bundle.spec, pid);
  }

  deleted(id: string): void {
    this.#sandboxes.delete(id);
  }
}
