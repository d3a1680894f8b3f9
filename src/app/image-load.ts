import { createReadStream } from 'node:fs';
import { ShimError } from '../error.ts';
import { appFromLocked, selectComponents } from './app-from-locked.ts';
import type { BlobSource } from './blob-source.ts';
import { BlobStore } from './blob-store.ts';
import { verifiedBytes } from './blob-verify.ts';
import { type AssetFile, placeAssets } from './image-assets.ts';
import {
  checkTotal,
  defaultMaxLayerBytes,
  type ImageLimits,
  storeContent,
  type Wanted,
} from './image-content.ts';
import { resolveImage } from './image-resolve.ts';
import { maxLockedAppBytes, parseLockedApp } from './locked-app.ts';
import type { ContentRef } from './locked-app-content.ts';
import type { Descriptor, ImageManifest } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';
import { appOfComponent } from './single-component.ts';
import type { App, FileMount } from './types.ts';

export type LoadOptions = {
  /** Folder of our own for blobs and assets, mode 700; made when it is not there. */
  readonly storeDir: string;
  /** Ids of SPIN_COMPONENTS_TO_RETAIN; the content of other components is not read. Absent: all. */
  readonly retain?: readonly string[];
  readonly limits?: ImageLimits;
};

export type LoadedImage =
  | { readonly kind: 'spin' | 'wkg'; readonly app: App; readonly manifestDigest: string }
  /** An ordinary container image: its app, if any, is in its root filesystem. */
  | { readonly kind: 'none'; readonly reason: string };

/** What the layers of an image say it is (spin.md 2.1 and 2.2). The config's platform has no say. */
export type ImageKind =
  | { readonly kind: 'spin'; readonly lockedApp: Descriptor; readonly layers: readonly Descriptor[] }
  | { readonly kind: 'wkg'; readonly component: Descriptor }
  | { readonly kind: 'none'; readonly reason: string };

const spinTypes: ReadonlySet<string> = new Set([
  mediaTypes.spinApp,
  mediaTypes.wasmLayer,
  mediaTypes.dataLayer,
  mediaTypes.archiveLayer,
]);

/** Tells a Spin app, a component pushed by `wkg`, and anything else apart. Throws `invalid-image` for what is in between. */
export function classifyImage(manifest: ImageManifest): ImageKind {
  const spin = manifest.layers.filter((layer) => spinTypes.has(layer.mediaType));
  const wkg = manifest.layers.filter((layer) => layer.mediaType === mediaTypes.wkg);
  const [component] = wkg;
  if (component !== undefined) {
    const count = spin.length + wkg.length;
    if (count === 1) return { kind: 'wkg', component };
    throw new ShimError(
      'invalid-image',
      `image has a layer of the type "${mediaTypes.wkg}" and ${count - 1} more for WebAssembly, and such a layer has to be the only one: push the component alone with "wkg oci push", or the app with "spin registry push"`,
    );
  }
  const apps = spin.filter((layer) => layer.mediaType === mediaTypes.spinApp);
  // Spin 1 pushed the locked app as the config blob.
  if (apps.length === 0 && manifest.config.mediaType === mediaTypes.spinApp) {
    return { kind: 'spin', lockedApp: manifest.config, layers: spin };
  }
  if (spin.length === 0) {
    return { kind: 'none', reason: 'image has no layer of a Spin app or a WebAssembly component' };
  }
  const [lockedApp] = apps;
  if (lockedApp === undefined || apps.length > 1) {
    throw new ShimError(
      'invalid-image',
      `image has layers of a Spin app, but ${apps.length} locked apps ("${mediaTypes.spinApp}") where one is needed: push it with "spin registry push" or "spinshim push"`,
    );
  }
  return { kind: 'spin', lockedApp, layers: spin };
}

/**
 * An image → an `App` whose files are all on this node, verified. Reads the manifest for this platform, then only what
 * the components in use refer to; blobs that the store holds are not read again. Throws `invalid-image`,
 * `digest-mismatch`, `resource-exhausted`, `unsupported`, what the locked app's parser throws, and what the source throws.
 */
export async function loadImage(
  source: BlobSource,
  root: Descriptor | string,
  options: LoadOptions,
): Promise<LoadedImage> {
  const { descriptor, manifest } = await resolveImage(source, root);
  const image = classifyImage(manifest);
  if (image.kind === 'none') return image;
  const store = await BlobStore.open(options.storeDir);
  const app =
    image.kind === 'wkg'
      ? await loadComponent(source, image.component, store, descriptor.digest, options.limits ?? {})
      : await loadSpinApp(source, image, store, descriptor.digest, options);
  return { kind: image.kind, app, manifestDigest: descriptor.digest };
}

async function loadSpinApp(
  source: BlobSource,
  image: Extract<ImageKind, { kind: 'spin' }>,
  store: BlobStore,
  manifestDigest: string,
  options: LoadOptions,
): Promise<App> {
  const bytes = await verifiedBytes(source, image.lockedApp, maxLockedAppBytes);
  const locked = parseLockedApp(bytes, `locked app of the image ${manifestDigest}`);
  const { components } = selectComponents(locked, options.retain);
  const wanted = components.flatMap((component): readonly Wanted[] => [
    { ref: component.source, what: `the source of component "${component.id}"` },
    ...component.files.map(({ path, content }) => ({
      ref: content,
      what: `the file ${JSON.stringify(path)} of component "${component.id}"`,
    })),
  ]);
  const digests = await storeContent(source, image.layers, store, wanted, options.limits ?? {});
  const digestOf = (ref: ContentRef): string => {
    const digest = digests.get(ref);
    if (digest === undefined)
      throw new ShimError('internal', 'content of a component that is not in use was asked for');
    return digest;
  };
  const mounts = new Map<string, readonly FileMount[]>();
  for (const { id, files } of components) {
    const assets = files.map(({ path, content }): AssetFile => ({ path, digest: digestOf(content) }));
    if (assets.length > 0)
      mounts.set(id, [
        { source: await placeAssets(store, assets, options.limits?.maxAssetBytes), destination: '/' },
      ]);
  }
  return appFromLocked(
    locked,
    {
      source: (_id, ref) => ({ path: store.path(digestOf(ref)), digest: digestOf(ref) }),
      mounts: (id) => mounts.get(id) ?? [],
    },
    { ociImageDigest: manifestDigest, ...(options.retain === undefined ? {} : { retain: options.retain }) },
  );
}

/** A lone component becomes an app that answers every path with it (spin.md 2.2). */
async function loadComponent(
  source: BlobSource,
  layer: Descriptor,
  store: BlobStore,
  manifestDigest: string,
  limits: ImageLimits,
): Promise<App> {
  checkTotal([layer], limits);
  const fetched = await store.fetch(source, layer, limits.maxLayerBytes ?? defaultMaxLayerBytes);
  // The rest of the program knows components by sha256 alone.
  const digest = layer.digest.startsWith('sha256:')
    ? layer.digest
    : await store.putStream(createReadStream(fetched), () => true);
  const component = { id: 'component', source: { path: store.path(digest), digest } };
  const app = appOfComponent(digest, component, { triggerId: 'http-trigger' });
  return { ...app, ociImageDigest: manifestDigest };
}
