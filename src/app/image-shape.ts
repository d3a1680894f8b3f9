import { ShimError } from '../error.ts';
import { archiveOfText } from './archive-writer.ts';
import { sha256Digest } from './blob-verify.ts';
import { BlobSet, BuiltImage } from './image-built.ts';
import { descriptorJson } from './layout-writer.ts';
import type { LockedApp } from './locked-app.ts';
import type { Descriptor, Platform } from './oci-types.ts';
import { lockedAppDigestLabel, mediaTypes } from './oci-types.ts';

/** How an app is put into an image. */
export type ImageShape =
  /** What `spin registry push` makes (spin.md 2.1): an artifact for WebAssembly. */
  | 'spin'
  /** The same layers behind an ordinary image for linux, which every containerd pulls and unpacks (containerd.md 6.6). */
  | 'universal';

/** Platforms of the universal shape; the layers are the same. */
export const universalPlatforms: readonly Platform[] = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];

/** Annotations as Spin infers them, then those of the user. */
export function inferAnnotations(
  app: LockedApp,
  created: Date,
  stronger: ReadonlyMap<string, string> = new Map(),
): ReadonlyMap<string, string> {
  const { name, version, description, authors } = app.metadata;
  const prefix = 'org.opencontainers.image';
  return new Map([
    [`${prefix}.created`, created.toISOString()],
    ...(authors.length === 0 ? [] : [[`${prefix}.authors`, authors.join(', ')] as const]),
    [`${prefix}.title`, name],
    ...(description === undefined ? [] : [[`${prefix}.description`, description] as const]),
    ...(version === undefined ? [] : [[`${prefix}.version`, version] as const]),
    ...stronger,
  ]);
}

/** Puts layers (the locked app among them, last) behind configs and manifests of the shape. */
export async function assembleImage(
  blobs: BlobSet,
  layers: readonly Descriptor[],
  lockedApp: Descriptor,
  annotations: ReadonlyMap<string, string>,
  shape: ImageShape,
): Promise<BuiltImage> {
  const created = annotations.get('org.opencontainers.image.created');
  const labels = { [lockedAppDigestLabel]: lockedApp.digest };
  const documents = new BlobSet();
  const addManifest = (config: unknown, list: readonly Descriptor[]): Descriptor => {
    const configBlob = blobs.addBytes(Buffer.from(JSON.stringify(config)), mediaTypes.config);
    const manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: descriptorJson(configBlob),
      layers: list.map(descriptorJson),
      annotations: Object.fromEntries(annotations),
    };
    return documents.addBytes(Buffer.from(JSON.stringify(manifest)), mediaTypes.manifest);
  };

  let root: Descriptor;
  let manifests: readonly Descriptor[] = [];
  switch (shape) {
    case 'spin': {
      const config = {
        created,
        architecture: 'wasm',
        os: 'wasip1',
        config: { Labels: labels },
        rootfs: { type: 'layers', diff_ids: [] },
      };
      root = addManifest(config, layers);
      break;
    }
    case 'universal': {
      // containerd wants one layer it can unpack; it holds nothing that is read.
      const marker = await archiveOfText(
        '.spin-app',
        'This image is a Spin app; its layers follow this one.\n',
      );
      const markerLayer = blobs.addBytes(marker.gzip, mediaTypes.layerTarGzip);
      manifests = universalPlatforms.map((platform) => {
        const config = {
          created,
          architecture: platform.architecture,
          os: platform.os,
          config: { Entrypoint: ['/'], Labels: labels },
          rootfs: { type: 'layers', diff_ids: [sha256Digest(marker.tar)] },
        };
        return { ...addManifest(config, [markerLayer, ...layers]), platform };
      });
      const index = {
        schemaVersion: 2,
        mediaType: mediaTypes.index,
        manifests: manifests.map(descriptorJson),
        annotations: Object.fromEntries(annotations),
      };
      root = documents.addBytes(Buffer.from(JSON.stringify(index)), mediaTypes.index);
      break;
    }
    default:
      throw new ShimError(
        'invalid-argument',
        `image shape ${JSON.stringify(shape satisfies never)} is unknown`,
      );
  }
  const contents = new Map([...blobs.contents, ...documents.contents]);
  return new BuiltImage({ root, manifests, blobs: [...blobs.descriptors.values()], contents });
}
