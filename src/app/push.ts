import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { inParallel } from './blob-parallel.ts';
import { verifiedBytes, verifiedStream } from './blob-verify.ts';
import { type BuildOptions, buildImage } from './image-build.ts';
import type { BuiltImage } from './image-built.ts';
import { LayoutWriter } from './layout-writer.ts';
import type { LockedApp } from './locked-app.ts';
import { parseImageName } from './oci-name.ts';
import { maxImageManifestBytes } from './oci-parse.ts';
import { Registry, type RegistryOptions } from './registry.ts';

export type PushOptions = Omit<BuildOptions, 'workDir'> & Omit<RegistryOptions, 'access'>;

/** What came of a push: the digest of the manifest, or of the index of the universal shape. */
export type Pushed = { readonly digest: string };

const uploadsAtOnce = 4;

/**
 * Pushes an app whose content references are `file:` URLs. Blobs that the repository holds are not sent; the tag is
 * set last. Throws what `buildImage` and the registry throw, and `invalid-argument` for a reference without a tag.
 */
export async function pushApp(app: LockedApp, reference: string, options: PushOptions): Promise<Pushed> {
  const name = parseImageName(reference);
  const { tag } = name;
  if (tag === undefined || name.digest !== undefined) {
    throw new ShimError(
      'invalid-argument',
      `image reference "${reference}" names a digest: push to a tag, such as ":latest"`,
    );
  }
  return withImage(app, options, async (image) => {
    const registry = new Registry(name, { ...options, access: 'push' });
    try {
      await inParallel(image.blobs, uploadsAtOnce, (blob) =>
        registry.putBlob(blob, () => verifiedStream(image, blob)),
      );
      for (const manifest of image.manifests) {
        const bytes = await verifiedBytes(image, manifest, maxImageManifestBytes);
        await registry.putManifest(bytes, manifest.mediaType, manifest.digest);
      }
      const bytes = await verifiedBytes(image, image.root, maxImageManifestBytes);
      await registry.putManifest(bytes, image.root.mediaType, tag);
    } finally {
      await registry.close();
    }
    return { digest: image.root.digest };
  });
}

/** Writes an app into a folder in OCI layout under a name (`--to-layout`); other images of the folder stay. */
export async function writeLayout(
  app: LockedApp,
  folder: string,
  name: string,
  options: Omit<BuildOptions, 'workDir'>,
): Promise<Pushed> {
  return withImage(app, options, async (image) => {
    const writer = new LayoutWriter(folder);
    await writer.open();
    for (const blob of [...image.blobs, ...image.manifests, image.root]) {
      await writer.put(image, blob, Number.MAX_SAFE_INTEGER);
    }
    await writer.finish(image.root, name);
    return { digest: image.root.digest };
  });
}

async function withImage<T>(
  app: LockedApp,
  options: Omit<BuildOptions, 'workDir'>,
  use: (image: BuiltImage) => Promise<T>,
): Promise<T> {
  const workDir = await mkdtemp(join(tmpdir(), 'spin-push-'));
  try {
    return await use(await buildImage(app, { ...options, workDir }));
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}
