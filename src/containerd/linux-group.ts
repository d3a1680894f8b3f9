import { Lock } from '../workload/lock.ts';
import type { Spec } from '../workload/spec.ts';

/** Annotations by which the Linux shim puts containers into one process, the first found wins (containerd.md 1.6). */
const groupAnnotations = ['io.containerd.runc.v2.group', 'io.kubernetes.cri.sandbox-id'];

/**
 * The containers that one Linux shim serves: those of a pod. It ends when it is told so after its last container;
 * a container that comes at that moment must wait for the end, or it would be created in a dying shim.
 */
export class LinuxGroup {
  /** By which the Linux shim knows the group: a pod's id, or that of the one container. */
  readonly name: string;
  readonly #lock = new Lock();
  readonly #members = new Set<object>();

  constructor(name: string) {
    this.name = name;
  }

  get empty(): boolean {
    return this.#members.size === 0;
  }

  /** Whether nobody has or wants anything of it. */
  get idle(): boolean {
    return this.empty && this.#lock.idle;
  }

  add(member: object): void {
    this.#members.add(member);
  }

  delete(member: object): void {
    this.#members.delete(member);
  }

  /** Runs what boots or ends the shim, one after the other. */
  run<T>(operation: () => Promise<T>): Promise<T> {
    return this.#lock.run(operation);
  }
}

/** The groups of a host. */
export class LinuxGroups {
  readonly #groups = new Map<string, LinuxGroup>();

  /** The group of a container. */
  of(id: string, { annotations }: Spec): LinuxGroup {
    for (const [key, group] of this.#groups) if (group.idle) this.#groups.delete(key);
    const key =
      groupAnnotations.map((name) => annotations.get(name)).find((name) => name !== undefined) ?? id;
    const group = this.#groups.get(key) ?? new LinuxGroup(key);
    this.#groups.set(key, group);
    return group;
  }
}
