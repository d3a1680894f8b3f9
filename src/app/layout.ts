import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { digestParts } from './blob-verify.ts';
import { isDigest, parseImageName } from './oci-name.ts';
import { maxImageManifestBytes, parseImageManifest } from './oci-parse.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';

/** The annotation that names an entry of a layout's index: a tag, or a whole reference. */
export const referenceAnnotation = 'org.opencontainers.image.ref.name';

/** A folder in OCI layout: `index.json`, `oci-layout`, `blobs/<algorithm>/<hex>` (OCI image specification 1.1). */
export class Layout implements BlobSource {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The path of a blob, whether it is there or not. */
  blobPath(digest: string): string {
    const { algorithm, hex } = digestParts(digest);
    return join(this.#folder, 'blobs', algorithm, hex);
  }

  /** The entries of `index.json`. Throws `not-found` when the folder is no layout, `invalid-image` when it is broken. */
  async entries(): Promise<readonly Descriptor[]> {
    const bytes = await this.#readIndex();
    const index = parseImageManifest(bytes, mediaTypes.index);
    return index.kind === 'index' ? index.manifests : [];
  }

  /**
   * Finds an entry: by its name annotation (`reference` itself, or its tag), by a digest alone or after `@`; the empty
   * text means the only entry. Throws `not-found` with the names there are.
   */
  async resolve(reference: string): Promise<Descriptor> {
    const entries = await this.entries();
    const found = findEntry(entries, reference);
    if (found !== undefined) return found;
    const names = entries
      .map((entry) => entry.annotations?.get(referenceAnnotation) ?? entry.digest)
      .slice(0, 20);
    throw new ShimError(
      'not-found',
      `layout "${this.#folder}" has no single image for "${reference}"; it has ${names.length === 0 ? 'none' : names.join(', ')}`,
    );
  }

  /** See {@link BlobSource.read}. */
  async *read(descriptor: Descriptor): AsyncGenerator<Uint8Array, void> {
    try {
      yield* createReadStream(this.blobPath(descriptor.digest)) as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw this.#unreadable(error, `blob ${descriptor.digest}`);
    }
  }

  async #readIndex(): Promise<Buffer> {
    const path = join(this.#folder, 'index.json');
    try {
      await using file = await open(path);
      const { size } = await file.stat();
      if (size > maxImageManifestBytes) {
        throw new ShimError(
          'invalid-image',
          `"${path}" is ${size} bytes long, and at most ${maxImageManifestBytes} are taken`,
        );
      }
      return await file.readFile();
    } catch (error) {
      throw this.#unreadable(error, 'index.json');
    }
  }

  #unreadable(error: unknown, what: string): ShimError {
    if (error instanceof ShimError) return error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    return new ShimError(
      code === 'ENOENT' ? 'not-found' : 'unavailable',
      `layout "${this.#folder}" has no readable ${what} (${code}): check that it is a whole OCI image layout`,
      { cause: error },
    );
  }
}

function findEntry(entries: readonly Descriptor[], reference: string): Descriptor | undefined {
  if (reference === '') return entries.length === 1 ? entries[0] : undefined;
  const named = (name: string): Descriptor | undefined =>
    entries.find((entry) => entry.annotations?.get(referenceAnnotation) === name);
  const exact = named(reference);
  if (exact !== undefined) return exact;
  if (isDigest(reference)) return entries.find((entry) => entry.digest === reference);
  const name = parseImageName(reference);
  if (name.digest !== undefined) return entries.find((entry) => entry.digest === name.digest);
  return name.tag === undefined ? undefined : named(name.tag);
}
