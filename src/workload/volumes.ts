import { posix } from 'node:path';
import type { App } from '../app/types.ts';
import type { ClaimVolume, VolumeGrant } from '../engine/engine-process.ts';
import { ShimError } from '../error.ts';
import { filesAnnotation } from './annotations.ts';
import type { Spec, SpecMount } from './spec.ts';

/** Entries of the annotation at most. */
export const maxFileGrants = 64;

/** A directory or file of the node that the pod has at a place of its own. */
type Volume = ClaimVolume;

/** Options that make a mount read-only. For one that is with all mounts below it, containerd and Docker say the second alone. */
const readOnlyOptions = ['ro', 'rro'];

/** Whether a mount takes no writing. */
export function isReadOnly({ options }: Pick<SpecMount, 'options'>): boolean {
  return options.some((option) => readOnlyOptions.includes(option));
}

/** What containerd and kubelet mount for programs of a container, not for whom the pod is written. */
const ofTheSystem = ['/proc', '/dev', '/sys'];

/** The pod's mounts with a source on the node: volumes, ConfigMaps, Secrets, projected files, in the order of the spec. */
export function volumesOf(spec: Spec): readonly Volume[] {
  return spec.mounts.flatMap((mount) => {
    const { source, destination } = mount;
    const place = posix.normalize(destination).replace(/(.)\/$/, '$1');
    const isSystem = ofTheSystem.some((path) => place === path || place.startsWith(`${path}/`));
    if (!source.startsWith('/') || !place.startsWith('/') || isSystem) return [];
    return [{ source, destination: place, writable: !isReadOnly(mount) }];
  });
}

/** An app, and what its components are given of the pod's volumes. */
export type GrantedApp = { readonly app: App; readonly grants: readonly VolumeGrant[] };

/**
 * Grants by the two ways there are. A manifest's `files` of an image with a root file system names a folder in which the pod
 * has mounted a volume: the component sees that volume. The annotation names a component and a path of the pod, and
 * makes it writable if it says so and the mount is. Throws `invalid-argument` for an annotation that grants what is not
 * there.
 */
export function grantVolumes(
  app: App,
  rootfs: string,
  volumes: readonly Volume[],
  annotation: string | undefined,
): GrantedApp {
  const grants: VolumeGrant[] = [];
  const components = app.components.map((component) => ({
    ...component,
    files: component.files.filter(({ source, destination }) => {
      const path = source.startsWith(`${rootfs}/`) ? source.slice(rootfs.length) : undefined;
      const found = path === undefined ? undefined : locate(volumes, path);
      if (found === undefined) return true;
      const { source: volume, below } = found;
      grants.push({ component: component.id, source: volume, below, destination, writable: false });
      return false;
    }),
  }));
  const changed = grants.length === 0 ? app : { ...app, components };
  return { app: changed, grants: [...grants, ...annotatedGrants(app, volumes, annotation)] };
}

/** The volume that has a path of the pod, and the path below it; the mount that is nearest counts, among equals the last. */
function locate(
  volumes: readonly Volume[],
  path: string,
): { readonly source: string; readonly below: string; readonly mountWritable: boolean } | undefined {
  const holds = ({ destination }: Volume): boolean =>
    path === destination || path.startsWith(destination === '/' ? '/' : `${destination}/`);
  const [nearest] = volumes
    .filter(holds)
    .reverse()
    .toSorted((left, right) => right.destination.length - left.destination.length);
  if (nearest === undefined) return undefined;
  const below = path.slice(nearest.destination.length).replace(/^\//, '');
  return { source: nearest.source, below, mountWritable: nearest.writable };
}

function annotatedGrants(
  app: App,
  volumes: readonly Volume[],
  annotation: string | undefined,
): readonly VolumeGrant[] {
  const entries = (annotation ?? '')
    .split(',')
    .flatMap((entry) => (entry.trim() === '' ? [] : [entry.trim()]));
  if (entries.length > maxFileGrants)
    throw wrong(`has ${entries.length} entries; at most ${maxFileGrants} are read`);
  return entries.map((entry) => {
    const { component, path, destination, writable } = parseEntry(entry);
    if (!app.components.some(({ id }) => id === component)) {
      const known = app.components.map(({ id }) => `"${id}"`).join(', ');
      throw wrong(`names the component "${component}", which the app does not have: it has ${known}`);
    }
    const found = locate(volumes, path);
    if (found === undefined) {
      const known = volumes.map((volume) => `"${volume.destination}"`).join(', ');
      throw wrong(
        `names "${path}", where the pod has no volume mounted: it has ${known === '' ? 'none' : known}`,
      );
    }
    if (writable && !found.mountWritable)
      throw wrong(
        `makes "${path}" writable, which the pod mounts read-only: drop ":rw", or "readOnly" of the mount`,
      );
    return { component, source: found.source, below: found.below, destination, writable };
  });
}

function parseEntry(entry: string): {
  readonly component: string;
  readonly path: string;
  readonly destination: string;
  readonly writable: boolean;
} {
  const [component = '', path = '', ...rest] = entry.split(':');
  const writable = rest.at(-1) === 'rw';
  if (writable) rest.pop();
  const [destination = path, ...more] = rest;
  for (const given of [path, destination]) {
    if (!given.startsWith('/') || posix.normalize(given) !== given || given.includes('\0'))
      throw wrong(
        `has the entry "${entry}", where "${given}" is no absolute path without ".." and doubled slashes`,
      );
  }
  if (component === '' || more.length > 0)
    throw wrong(`has the entry "${entry}": expected COMPONENT:/path[:/path/in/guest][:rw]`);
  return { component, path, destination, writable };
}

function wrong(what: string): ShimError {
  return new ShimError('invalid-argument', `the annotation "${filesAnnotation}" of the pod ${what}`);
}
