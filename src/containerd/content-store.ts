import type { BlobSource } from '../app/blob-source.ts';
import type { Descriptor } from '../app/oci-types.ts';
import { GrpcConnection } from './grpc.ts';
import { getImageTarget } from './images.ts';
import { ProtoFile } from './proto-file.ts';

type ReadRequest = { readonly digest: string; readonly offset: number; readonly size: number };
type ReadResponse = { readonly offset: number; readonly data: Uint8Array };

const service = 'containerd.services.content.v1.Content';
const readCodec = new ProtoFile('content.proto').method<ReadRequest, ReadResponse>(service, 'Read');

/** The images in containerd's content store, read over its gRPC API (containerd.md 7). */
export class ContainerdBlobs implements BlobSource {
  readonly #connection: GrpcConnection;

  /** `address`: containerd's gRPC socket; `namespace`: the containerd namespace the images are in. */
  constructor(address: string, namespace: string) {
    this.#connection = new GrpcConnection(address, namespace);
  }

  async resolve(reference: string): Promise<Descriptor> {
    const { mediaType, digest, size } = await getImageTarget(this.#connection, reference);
    return { mediaType, digest, size };
  }

  async *read(descriptor: Descriptor): AsyncIterable<Uint8Array> {
    const request = { digest: descriptor.digest, offset: 0, size: 0 };
    for await (const { data } of this.#connection.stream(service, 'Read', readCodec, request)) yield data;
  }

  /** Closes the connection to containerd. */
  close(): void {
    this.#connection.close();
  }
}
