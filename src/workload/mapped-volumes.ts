import { closeSync, openSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { ShimError } from '../error.ts';
import type { MappedMount } from '../linux-mounts.ts';
import type { Spec, SpecMount } from './spec.ts';
import { isReadOnly } from './volumes.ts';

/** Shows something of the node below the bundle with other ids, and gives its place. */
export type ExposeMapped = (source: string, name: string, mapping: MappedMount) => Promise<string>;

type MappedSpec = Pick<Spec, 'mounts' | 'namespaces' | 'uidMappings' | 'gidMappings'>;

/**
 * The volumes of a pod in a user namespace. kubelet keeps their files with the ids that the pod knows them by, and the runtime
 * mounts them with those of the namespace: there a file of 0 is one of the container's root, whom the node calls otherwise.
 */
export class MappedVolumes {
  readonly #spec: MappedSpec;
  readonly #expose: ExposeMapped;
  readonly #places = new Map<SpecMount, Promise<string>>();

  constructor(spec: MappedSpec, expose: ExposeMapped) {
    this.#spec = spec;
    this.#expose = expose;
  }

  /**
   * Where a volume is to be opened that is at `source` on the node: there, or in its mapped mount, which is made the first time.
   * Throws `unsupported` for a mapping that is not that of the container's namespace, `failed-precondition` where the node
   * cannot map the volume.
   */
  async placeOf(source: string): Promise<string> {
    const mount = this.#spec.mounts.find(
      (candidate) => candidate.source === source && candidate.uidMappings.length > 0,
    );
    if (mount === undefined) return source;
    const place = this.#places.get(mount) ?? this.#map(mount, this.#places.size);
    this.#places.set(mount, place);
    return place;
  }

  async #map(mount: SpecMount, index: number): Promise<string> {
    const { source, destination, options } = mount;
    const what = `the volume at "${destination}" cannot be given the ids of the pod's user namespace`;
    const { namespaces, uidMappings, gidMappings } = this.#spec;
    const path = namespaces.find(({ type }) => type === 'user')?.path;
    const isOfNamespace =
      isDeepStrictEqual(mount.uidMappings, uidMappings) && isDeepStrictEqual(mount.gidMappings, gidMappings);
    if (path === undefined || !isOfNamespace)
      throw new ShimError(
        'unsupported',
        `${what}: ${path === undefined ? 'the namespace is none that is there already, as that of a pod is' : 'its own mapping is another'}`,
      );
    try {
      const namespace = openSync(path, 'r');
      try {
        return await this.#expose(source, `mapped-${index}`, {
          namespace,
          below: options.includes('ridmap') ? 'mapped' : options.includes('rbind') ? 'taken' : 'left',
          readOnly: isReadOnly(mount),
        });
      } finally {
        closeSync(namespace);
      }
    } catch (cause) {
      throw new ShimError(
        'failed-precondition',
        `${what}: ${ShimError.from(cause).message}; its file system has to allow that (ext4 and xfs do, tmpfs since Linux 6.3, NFS does not), or run the pod with hostUsers: true`,
        { cause },
      );
    }
  }
}
