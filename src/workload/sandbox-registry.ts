import type { NetworkTarget } from '../engine/engine-process.ts';
import { sandboxAnnotation } from './annotations.ts';
import type { Spec } from './spec.ts';

/** Annotations by which containerd's CRI says what a container is (containerd.md 6.2). */
const containerTypeAnnotation = 'io.kubernetes.cri.container-type';
const sandboxIdAnnotation = 'io.kubernetes.cri.sandbox-id';

/** What a container is for. */
export type ContainerRole =
  | { readonly kind: 'sandbox' }
  /** `sandboxId` is undefined outside of a pod, as under ctr. */
  | { readonly kind: 'container'; readonly sandboxId: string | undefined };

/** Reads the role from the annotations. */
export function roleOf(spec: Spec): ContainerRole {
  if (spec.annotations.get(containerTypeAnnotation) === 'sandbox') return { kind: 'sandbox' };
  return { kind: 'container', sandboxId: spec.annotations.get(sandboxIdAnnotation) };
}

/** Whether a sandbox is beyond our own: one with a user namespace, or that its pod wants run from its image. */
export function needsLinuxSandbox({ annotations, namespaces }: Spec): boolean {
  return annotations.get(sandboxAnnotation) === 'runc' || namespaces.some(({ type }) => type === 'user');
}

/** The network namespace a specification asks for: joined by path, a new one, or the node's. */
export function networkOf(spec: Spec): NetworkTarget {
  const entry = spec.namespaces.find(({ type }) => type === 'network');
  if (entry === undefined) return { kind: 'host' };
  return entry.path === undefined ? { kind: 'new' } : { kind: 'path', path: entry.path };
}

/** Which network namespace each live pod has. */
export class SandboxRegistry {
  readonly #networks = new Map<string, NetworkTarget>();

  /** Notes a sandbox; one that made its own namespace is reached through its process. */
  add(id: string, spec: Spec, pid: number): void {
    const network = networkOf(spec);
    this.#networks.set(id, network.kind === 'new' ? { kind: 'path', path: `/proc/${pid}/ns/net` } : network);
  }

  delete(id: string): void {
    this.#networks.delete(id);
  }

  /** The network namespace of a container: its pod's, else what its own specification says. */
  networkFor(spec: Spec, sandboxId: string | undefined): NetworkTarget {
    const ofPod = sandboxId === undefined ? undefined : this.#networks.get(sandboxId);
    return ofPod ?? networkOf(spec);
  }
}
