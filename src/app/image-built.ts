import { createReadStream } from 'node:fs';
import { ShimError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { sha256Digest } from './blob-verify.ts';
import type { Descriptor } from './oci-types.ts';

/** Where the bytes of a blob are until they are sent. */
export type BlobContent =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'file'; readonly path: string };

/** A complete image on this machine; reads like any other source. `resolve` gives the root whatever it is asked for. */
export class BuiltImage implements BlobSource {
  /** The manifest, or the index of the universal shape. */
  readonly root: Descriptor;
  /** Manifests below the root; empty when the root is one. */
  readonly manifests: readonly Descriptor[];
  /** Layers and configs, each once. */
  readonly blobs: readonly Descriptor[];
  readonly #contents: ReadonlyMap<string, BlobContent>;

  constructor(parts: {
    readonly root: Descriptor;
    readonly manifests: readonly Descriptor[];
    readonly blobs: readonly Descriptor[];
    readonly contents: ReadonlyMap<string, BlobContent>;
  }) {
    this.root = parts.root;
    this.manifests = parts.manifests;
    this.blobs = parts.blobs;
    this.#contents = parts.contents;
  }

  async resolve(_reference: string): Promise<Descriptor> {
    return this.root;
  }

  async *read(descriptor: Descriptor): AsyncGenerator<Uint8Array, void> {
    const content = this.#contents.get(descriptor.digest);
    if (content === undefined)
      throw new ShimError('not-found', `image being built has no blob ${descriptor.digest}`);
    if (content.kind === 'bytes') yield content.bytes;
    else yield* createReadStream(content.path) as AsyncIterable<Uint8Array>;
  }
}

/** Collects blobs by digest, so that equal ones are one. */
export class BlobSet {
  readonly contents = new Map<string, BlobContent>();
  readonly descriptors = new Map<string, Descriptor>();

  addBytes(bytes: Uint8Array, mediaType: string): Descriptor {
    const digest = sha256Digest(bytes);
    this.contents.set(digest, { kind: 'bytes', bytes });
    return this.#add({ mediaType, digest, size: bytes.byteLength });
  }

  addFile(
    file: { readonly path: string; readonly digest: string; readonly size: number },
    mediaType: string,
  ): Descriptor {
    const { path, digest, size } = file;
    this.contents.set(digest, { kind: 'file', path });
    return this.#add({ mediaType, digest, size });
  }

  #add(descriptor: Descriptor): Descriptor {
    const known = this.descriptors.get(descriptor.digest);
    if (known !== undefined) return known;
    this.descriptors.set(descriptor.digest, descriptor);
    return descriptor;
  }
}
