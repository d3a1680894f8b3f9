import { ShimError } from '../error.ts';
import { inParallel } from './blob-parallel.ts';
import type { BlobSource } from './blob-source.ts';
import { verifiedBytes } from './blob-verify.ts';
import { checkTotal, defaultMaxLayerBytes, type ImageLimits } from './image-content.ts';
import { maxIndexDepth, resolveImage } from './image-resolve.ts';
import { LayoutWriter } from './layout-writer.ts';
import { formatImageName, parseImageName } from './oci-name.ts';
import { maxImageManifestBytes, parseImageManifest } from './oci-parse.ts';
import type { Descriptor } from './oci-types.ts';
import { Registry, type RegistryOptions } from './registry.ts';

export type PullOptions = Omit<RegistryOptions, 'access'> & {
  /** `all` keeps the index with every platform; `host` takes the manifest for this machine. Default `all`. */
  readonly platforms?: 'all' | 'host';
  readonly limits?: ImageLimits;
};

/** Most manifests and indexes of one image. */
export const maxManifests = 1000;

/**
 * Copies an image from its registry into a folder in OCI layout, each blob verified, under the reference's canonical
 * name. Gives the digest of what that name stands for. Throws what the registry and `resolveImage` throw.
 */
export async function pullToLayout(
  reference: string,
  folder: string,
  options: PullOptions = {},
): Promise<{ readonly digest: string }> {
  const name = parseImageName(reference);
  const registry = new Registry(name, options);
  try {
    const root =
      options.platforms === 'host'
        ? (await resolveImage(registry, reference)).descriptor
        : await registry.resolve(reference);
    await copyToLayout(registry, root, folder, formatImageName(name), options.limits);
    return { digest: root.digest };
  } finally {
    await registry.close();
  }
}

/** Copies everything below a root from any source into a folder in OCI layout, and names the root there. */
export async function copyToLayout(
  source: BlobSource,
  root: Descriptor,
  folder: string,
  name: string,
  limits: ImageLimits = {},
): Promise<void> {
  const { manifests, blobs } = await collect(source, root);
  checkTotal(blobs, limits);
  const writer = new LayoutWriter(folder);
  await writer.open();
  const maxBytes = limits.maxLayerBytes ?? defaultMaxLayerBytes;
  await inParallel(blobs, limits.concurrency ?? 4, (blob) => writer.put(source, blob, maxBytes));
  await inParallel(manifests, 1, (manifest) => writer.put(source, manifest, maxImageManifestBytes));
  await writer.finish(root, name);
}

type Collected = { readonly manifests: readonly Descriptor[]; readonly blobs: readonly Descriptor[] };

/** Walks indexes level by level; the same digest is visited once, and depth and count are bounded. */
async function collect(source: BlobSource, root: Descriptor): Promise<Collected> {
  const manifests = new Map<string, Descriptor>([[root.digest, root]]);
  const blobs = new Map<string, Descriptor>();
  let level: readonly Descriptor[] = [root];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > maxIndexDepth) {
      throw new ShimError(
        'invalid-image',
        `image index nests more than ${maxIndexDepth} deep: push the image as one index`,
      );
    }
    const below = new Map<string, Descriptor>();
    for (const descriptor of level) {
      const document = parseImageManifest(
        await verifiedBytes(source, descriptor, maxImageManifestBytes),
        descriptor.mediaType,
      );
      if (document.kind === 'manifest') {
        for (const blob of [document.config, ...document.layers]) blobs.set(blob.digest, blob);
        continue;
      }
      for (const entry of document.manifests)
        if (!manifests.has(entry.digest)) below.set(entry.digest, entry);
    }
    for (const [digest, entry] of below) manifests.set(digest, entry);
    if (manifests.size > maxManifests) {
      throw new ShimError(
        'resource-exhausted',
        `image has more than ${maxManifests} manifests: pull it for this platform only`,
      );
    }
    level = [...below.values()];
  }
  return { manifests: [...manifests.values()], blobs: blobs.values().toArray() };
}
