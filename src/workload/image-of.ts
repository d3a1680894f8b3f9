/** The image a container was made of. */
export type ContainerImage = {
  /** Name in containerd's image store. */
  readonly name: string;
  /** Digest of the manifest or index that the name stands for. */
  readonly digest: string;
};

/** Finds the image of a container by the container's id. Rejects with a ShimError. */
export type ImageOf = (id: string) => Promise<ContainerImage>;
