import type { BlobSource } from '../app/blob-source.ts';
import { resolveImage } from '../app/image-resolve.ts';
import { type ImageManifest, mediaTypes } from '../app/oci-types.ts';
import { ShimError } from '../error.ts';
import type { ImageOf } from '../workload/image-of.ts';

/** Layers by which an image is a Spin app or a component, whatever its root file system holds (spin.md 2.1, 2.2). */
const spinLayers: ReadonlySet<string> = new Set([
  mediaTypes.spinApp,
  mediaTypes.wasmLayer,
  mediaTypes.dataLayer,
  mediaTypes.archiveLayer,
  mediaTypes.wkg,
]);

/** Images whose answer is kept. */
const maxRemembered = 1024;

/** Tells the images with Spin layers by their manifests, each read once. */
export class SpinImages {
  readonly #imageOf: ImageOf;
  readonly #blobs: BlobSource;
  /** Digest of an image's target → whether it is one. */
  readonly #known = new Map<string, boolean>();

  constructor(blobs: BlobSource, imageOf: ImageOf) {
    this.#blobs = blobs;
    this.#imageOf = imageOf;
  }

  /**
   * Whether the image of a container has Spin layers. One that cannot be read has none to be run. Throws `unavailable`
   * or `deadline-exceeded` if containerd does not answer.
   */
  async isSpin(containerId: string): Promise<boolean> {
    try {
      const image = await this.#imageOf(containerId);
      if (image === undefined) return false;
      const { name, digest } = image;
      const known = this.#known.get(digest);
      if (known !== undefined) return known;
      const { manifest } = await resolveImage(this.#blobs, name);
      return this.#remember(digest, hasSpinLayers(manifest));
    } catch (thrown) {
      const error = ShimError.from(thrown);
      if (error.code === 'unavailable' || error.code === 'deadline-exceeded') throw error;
      return false;
    }
  }

  #remember(digest: string, isSpin: boolean): boolean {
    const [oldest] = this.#known.keys();
    if (this.#known.size >= maxRemembered && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(digest, isSpin);
    return isSpin;
  }
}

function hasSpinLayers({ config, layers }: ImageManifest): boolean {
  // Spin 1 pushed the locked app as the config blob.
  return config.mediaType === mediaTypes.spinApp || layers.some(({ mediaType }) => spinLayers.has(mediaType));
}
