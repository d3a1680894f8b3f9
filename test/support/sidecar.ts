import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { appFolder } from './apps.ts';
import type { PrivateContainerd } from './containerd.ts';
import type { ContainerInput, ContainerStatus } from './cri.ts';
import { appImage, buildImage, importImage, type OciImage } from './images.ts';
import { staticProgram } from './static-program.ts';
import { waitFor } from './wait.ts';

/** Names under which `importMixedImages` puts a Spin app and a Linux program into containerd. */
export const mixedImages = { app: 'spinshim.test/hello:1', sidecar: 'spinshim.test/sidecar:1' } as const;

/** An image of the program that `test/support/c/sidecar.c` describes; its entrypoint is the program. */
export async function sidecarImage(): Promise<OciImage> {
  const files = new Map([['bin/sidecar', { content: await staticProgram('sidecar'), mode: 0o755 }]]);
  return buildImage({ files, entrypoint: ['sidecar'], env: ['PATH=/usr/bin:/bin'] });
}

export async function importMixedImages(containerd: PrivateContainerd): Promise<void> {
  const app = await appImage(appFolder('hello'), { paths: ['spin.toml', 'hello.wasm'] });
  await importImage(containerd, app, mixedImages.app);
  await importImage(containerd, await sidecarImage(), mixedImages.sidecar);
}

/** Creates and starts a container in a pod; gives its id. */
export async function startContainer(
  containerd: PrivateContainerd,
  podId: string,
  input: ContainerInput,
): Promise<string> {
  const id = await containerd.cri.createContainer(podId, input);
  await containerd.cri.start(id);
  return id;
}

/** Starts a Linux container that runs the sidecar program with these arguments. */
export function startSidecar(
  containerd: PrivateContainerd,
  podId: string,
  name: string,
  args: readonly string[],
  more: Partial<ContainerInput> = {},
): Promise<string> {
  return startContainer(containerd, podId, { name, image: mixedImages.sidecar, args, ...more });
}

/** Waits until CRI knows that a container has ended. */
export function containerEnd(containerd: PrivateContainerd, id: string): Promise<ContainerStatus> {
  return waitFor('a container to end', async () => {
    const status = await containerd.cri.status(id);
    return status.state === 'CONTAINER_EXITED' && status;
  });
}

/** Pids of this containerd's Linux shims. */
export function linuxShims(containerd: PrivateContainerd): number[] {
  return containerd
    .processes()
    .filter((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('containerd-shim'))
    .filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('containerd-shim-runc-v2'));
}

/** The socket of the Linux shim that runs a container, as the container's bundle has it. */
export function linuxSocket(containerd: PrivateContainerd, id: string): string {
  const bundle = join(containerd.state, 'io.containerd.runtime.v2.task', 'k8s.io', id);
  return readFileSync(join(bundle, 'runc-address'), 'utf8').trim().replace('unix://', '');
}

/** Containers that runc knows in containerd's default place, in the namespace of CRI. */
export function runcContainers(): string[] {
  try {
    return readdirSync('/run/containerd/runc/k8s.io').sort();
  } catch {
    return [];
  }
}
