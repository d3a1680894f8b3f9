import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlobSource } from './blob-source.ts';
import { verifiedFile, writeFileAtomic } from './blob-verify.ts';
import { Layout, referenceAnnotation } from './layout.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';

/** Writes a folder in OCI layout; blobs first, the index last, so that a reader never sees a name without its bytes. */
export class LayoutWriter {
  readonly #folder: string;
  readonly #layout: Layout;

  constructor(folder: string) {
    this.#folder = folder;
    this.#layout = new Layout(folder);
  }

  /** Makes the folders that are missing. */
  async open(): Promise<void> {
    for (const algorithm of ['sha256', 'sha512']) {
      await mkdir(join(this.#folder, 'blobs', algorithm), { recursive: true });
    }
  }

  /** Copies a blob from a source, verified; one that is there with the right size is kept. */
  async put(source: BlobSource, descriptor: Descriptor, maxBytes: number): Promise<void> {
    const path = this.#layout.blobPath(descriptor.digest);
    const present = await stat(path).catch(() => undefined);
    if (present?.isFile() === true && present.size === descriptor.size) return;
    await verifiedFile(source, descriptor, path, maxBytes);
  }

  /** Adds the root to `index.json` under a name, in place of what had that name. */
  async finish(root: Descriptor, name: string): Promise<void> {
    const annotations = new Map([...(root.annotations ?? []), [referenceAnnotation, name]]);
    const others = (await this.#existing()).filter(
      (entry) => entry.annotations?.get(referenceAnnotation) !== name,
    );
    const index = {
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      manifests: [...others, { ...root, annotations }].map(descriptorJson),
    };
    await this.#writeJson('oci-layout', { imageLayoutVersion: '1.0.0' });
    await this.#writeJson('index.json', index);
  }

  async #existing(): Promise<readonly Descriptor[]> {
    const present = await stat(join(this.#folder, 'index.json')).catch(() => undefined);
    return present === undefined ? [] : this.#layout.entries();
  }

  async #writeJson(name: string, value: unknown): Promise<void> {
    const bytes = Buffer.from(JSON.stringify(value));
    await writeFileAtomic(
      join(this.#folder, name),
      (async function* () {
        yield bytes;
      })(),
    );
  }
}

/** A descriptor in the form it has in JSON. */
export function descriptorJson(descriptor: Descriptor): Record<string, unknown> {
  const { mediaType, digest, size, platform, annotations } = descriptor;
  return {
    mediaType,
    digest,
    size,
    ...(platform === undefined ? {} : { platform }),
    ...(annotations === undefined || annotations.size === 0
      ? {}
      : { annotations: Object.fromEntries(annotations) }),
  };
}
