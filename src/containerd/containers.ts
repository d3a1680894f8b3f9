import { ShimError } from '../error.ts';
import type { ContainerImage } from '../workload/image-of.ts';
import type { GrpcConnection } from './grpc.ts';
import { getImageTarget } from './images.ts';
import { ProtoFile } from './proto-file.ts';

/** What containerd's metadata knows of a container. */
export type ContainerRecord = {
  readonly id: string;
  readonly image: string;
  readonly snapshotter: string;
  readonly snapshotKey: string;
  readonly labels: ReadonlyMap<string, string>;
};

type GetContainerRequest = { readonly id: string };
type GetContainerResponse = {
  readonly container:
    | (Omit<ContainerRecord, 'labels'> & { readonly labels: Readonly<Record<string, string>> })
    | null;
};

const service = 'containerd.services.containers.v1.Containers';
const getCodec = new ProtoFile('containers.proto').method<GetContainerRequest, GetContainerResponse>(
  service,
  'Get',
);

/** The metadata of a container. Throws `not-found` if containerd does not know it. */
async function getContainer(connection: GrpcConnection, id: string): Promise<ContainerRecord> {
  const { container } = await connection.call(service, 'Get', getCodec, { id });
  if (container === null) throw new ShimError('not-found', `containerd knows no container "${id}"`);
  return { ...container, labels: new Map(Object.entries(container.labels)) };
}

/**
 * The image a container was made of, with the digest its name stands for now; undefined for one that was made of a root
 * file system alone.
 */
export async function imageOfContainer(
  connection: GrpcConnection,
  id: string,
): Promise<ContainerImage | undefined> {
  const { image } = await getContainer(connection, id);
  if (image === '') return undefined;
  const { digest } = await getImageTarget(connection, image);
  return { name: image, digest };
}
