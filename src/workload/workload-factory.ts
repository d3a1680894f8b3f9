import type { Bundle } from './bundle.ts';
import { HeldResources } from './held-resources.ts';
import { findProgram } from './linux-program.ts';
import { Sandbox } from './sandbox.ts';
import { needsLinuxSandbox, roleOf, SandboxRegistry } from './sandbox-registry.ts';
import { SpinContainer, type SpinRuntime } from './spin-container.ts';
import type { TaskStdio } from './stdio.ts';
import type { RootMount, Workload } from './workload.ts';

export type PlacementRequest = {
  readonly id: string;
  readonly bundle: Bundle;
  readonly rootMounts: readonly RootMount[];
};

/** What a container is to be run by. Nobody has opened its streams yet. */
export type Placement =
  /** The shim for Linux containers; nothing is held for it here. */
  | { readonly kind: 'linux' }
  | {
      readonly kind: 'own';
      /** Makes the workload, which then holds what was taken for it. `signal` gives up creating it. */
      make(stdio: TaskStdio, signal: AbortSignal): Workload;
      /** To be called if `make` is not. */
      release(): Promise<void>;
    };

/** Decides what runs a container, makes the workload, and knows the pods. */
export class WorkloadFactory {
  readonly #runtime: SpinRuntime;
  readonly #launcher: string;
  readonly #sandboxes = new SandboxRegistry();

  /** `launcher`: absolute path of the launcher. */
  constructor(runtime: SpinRuntime, launcher: string) {
    this.#runtime = runtime;
    this.#launcher = launcher;
  }

  /**
   * Decides. A container is a Linux one if what it is to run is a program of its root file system, which that of a
   * Spin app has none of; if an image has both, its Spin layers win.
   */
  async place({ id, bundle, rootMounts }: PlacementRequest): Promise<Placement> {
    const { spec } = bundle;
    const role = roleOf(spec);
    const runtime = this.#runtime;
    if (role.kind === 'sandbox') {
      if (needsLinuxSandbox(spec)) return { kind: 'linux' };
      const make = (): Workload => new Sandbox(id, bundle, this.#launcher, runtime.log);
      return { kind: 'own', make, release: async () => {} };
    }
    const held = new HeldResources(id, bundle, runtime.log);
    try {
      await held.mountRootfs(rootMounts);
      if (findProgram(bundle) !== undefined && !(await runtime.isSpinImage(id))) {
        // The Linux shim mounts it itself, as it is used to, and is the one to unmount it.
        await held.free();
        return { kind: 'linux' };
      }
    } catch (error) {
      await held.free().catch(() => {});
      throw error;
    }
    const network = this.#sandboxes.networkFor(spec, role.sandboxId);
    return {
      kind: 'own',
      make: (stdio, signal) => new SpinContainer(runtime, { id, bundle, held, network, stdio, signal }),
      release: () => held.free(),
    };
  }

  /** Notes that a container lives: a sandbox's namespaces are there to be joined from now on. */
  created(id: string, bundle: Bundle, pid: number): void {
    if (roleOf(bundle.spec).kind === 'sandbox') this.#sandboxes.add(id, bundle.spec, pid);
  }

  deleted(id: string): void {
    this.#sandboxes.delete(id);
  }
}
