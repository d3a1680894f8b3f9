import { ShimError } from '../error.ts';
import type { GrpcConnection } from './grpc.ts';
import { ProtoFile } from './proto-file.ts';

/** What containerd's image store says an image name stands for. */
export type ImageTarget = { readonly mediaType: string; readonly digest: string; readonly size: number };

type GetImageRequest = { readonly name: string };
type GetImageResponse = { readonly image: { readonly target: ImageTarget | null } | null };

const service = 'containerd.services.images.v1.Images';
const getCodec = new ProtoFile('images.proto').method<GetImageRequest, GetImageResponse>(service, 'Get');

/** The manifest or index an image name points at. Throws `not-found` if containerd has no image of that name. */
export async function getImageTarget(connection: GrpcConnection, name: string): Promise<ImageTarget> {
  const { image } = await connection.call(service, 'Get', getCodec, { name });
  if (image?.target == null) {
    throw new ShimError('not-found', `containerd's image "${name}" has no target: pull it again`);
  }
  return image.target;
}
