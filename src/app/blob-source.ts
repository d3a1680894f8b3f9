import type { Descriptor } from './oci-types.ts';

/** Where the bytes of images come from: a registry, a folder in OCI layout, containerd's content store. */
export interface BlobSource {
  /**
   * The descriptor of what a reference names: a manifest or an index. Its digest is that of the bytes the source
   * holds. Throws `not-found` when there is none.
   */
  resolve(reference: string): Promise<Descriptor>;
  /**
   * The raw bytes of a descriptor, as they come and NOT verified: read them with `verifiedStream`, `verifiedBytes` or
   * `verifiedFile`. Errors come out of the iteration; leaving the iteration early frees the connection.
   */
  read(descriptor: Descriptor): AsyncIterable<Uint8Array>;
}
