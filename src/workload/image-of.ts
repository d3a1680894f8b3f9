/** The image a container was made of. */
export type ContainerImage = {
  /** Name in containerd's image store. */
  readonly name: string;
  /** Digest of the manifest or index that the name stands for. */
  readonly digest: string;
};

/**
 * Finds the image of a container by the container's id; undefined if containerd knows of none, as where Docker keeps
 * images in a store of its own. Rejects with a ShimError.
 */
export type ImageOf = (id: string) => Promise<ContainerImage | undefined>;
