/** What OCI images and Spin's artifacts are made of, as values (OCI image specification 1.1; spin.md 2.1). */

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layerTarGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  /** The locked app: a layer since Spin 2, the config blob before. */
  spinApp: 'application/vnd.fermyon.spin.application.v1+config',
  wasmLayer: 'application/vnd.wasm.content.layer.v1+wasm',
  dataLayer: 'application/vnd.wasm.content.layer.v1+data',
  archiveLayer: 'application/vnd.wasm.content.bundle.v1.tar+gzip',
  /** A component pushed by `wkg`. */
  wkg: 'application/wasm',
} as const;

/** The config label by which two apps never share a config blob. */
export const lockedAppDigestLabel = 'com.fermyon.spin.lockedAppDigest';

/** What a platform entry of an index says; both parts as written. */
export type Platform = {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
};

/** A reference to bytes: everything that is read from an image is read by one of these. */
export type Descriptor = {
  readonly mediaType: string;
  /** `sha256:<hex>` or `sha512:<hex>`, checked when the descriptor was parsed. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly platform?: Platform;
  readonly annotations?: ReadonlyMap<string, string>;
};

/** One image for one platform. */
export type ImageManifest = {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: ReadonlyMap<string, string>;
};

/** A list of images (or of further lists). */
export type ImageIndex = {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations: ReadonlyMap<string, string>;
};

/** The part of an image config that is of use here. */
export type ImageConfig = {
  readonly os: string;
  readonly architecture: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly diffIds: readonly string[];
};

/** Whether a media type is one of the two kinds of index. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.index || mediaType === mediaTypes.dockerIndex;
}

/** Whether a media type is one of the two kinds of image manifest. */
export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.manifest || mediaType === mediaTypes.dockerManifest;
}
