import { arch } from 'node:process';
import { ShimError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { verifiedBytes } from './blob-verify.ts';
import { maxImageManifestBytes, parseImageManifest } from './oci-parse.ts';
import type { Descriptor, ImageManifest } from './oci-types.ts';
import { isIndexType } from './oci-types.ts';

/** Deepest nesting of indexes: an index, one below it, and one more. */
export const maxIndexDepth = 3;

/** The manifest for this node. */
export type ResolvedImage = {
  readonly descriptor: Descriptor;
  readonly manifest: ImageManifest;
};

/** Node's name of an architecture → the one of OCI (Go's). */
const ociArchitectures: ReadonlyMap<string, string> = new Map([
  ['x64', 'amd64'],
  ['ia32', '386'],
  ['arm64', 'arm64'],
  ['arm', 'arm'],
  ['riscv64', 'riscv64'],
  ['ppc64', 'ppc64le'],
  ['s390x', 's390x'],
]);

/** This machine's architecture as images name it. */
export function hostArchitecture(): string {
  return ociArchitectures.get(arch) ?? arch;
}

/**
 * Reads a manifest, through indexes if need be. In an index `linux/<architecture>` comes first, then any entry for
 * WebAssembly, then an entry or a nested index that names no platform; attestations are passed over. A manifest that
 * stands alone is taken whatever its config says. Throws `not-found` with the platforms there are, `invalid-image`,
 * `digest-mismatch`, and what the source throws.
 */
export async function resolveImage(
  source: BlobSource,
  root: Descriptor | string,
  architecture: string = hostArchitecture(),
): Promise<ResolvedImage> {
  let descriptor = typeof root === 'string' ? await source.resolve(root) : root;
  for (let depth = 0; depth <= maxIndexDepth; depth += 1) {
    const bytes = await verifiedBytes(source, descriptor, maxImageManifestBytes);
    const document = parseImageManifest(bytes, descriptor.mediaType);
    if (document.kind === 'manifest') return { descriptor, manifest: document };
    descriptor = selectPlatform(document.manifests, architecture);
  }
  throw new ShimError(
    'invalid-image',
    `image index nests more than ${maxIndexDepth} deep: push the image as one index`,
  );
}

function isAttestation({ platform }: Descriptor): boolean {
  return platform?.os === 'unknown' || platform?.architecture === 'unknown';
}

/** WebAssembly goes by several names: `wasip1/wasm`, `wasi/wasm`, `wasm/…`. */
function isWasm({ platform }: Descriptor): boolean {
  return (
    platform !== undefined &&
    (platform.architecture.toLowerCase().startsWith('wasm') || /^wasi/i.test(platform.os))
  );
}

/** The entry of an index that is for this machine. Throws `not-found` that lists the platforms of the index. */
export function selectPlatform(entries: readonly Descriptor[], architecture: string): Descriptor {
  const candidates = entries.filter((entry) => !isAttestation(entry));
  const found =
    candidates.find(({ platform }) => platform?.os === 'linux' && platform.architecture === architecture) ??
    candidates.find(isWasm) ??
    candidates.find(({ platform, mediaType }) => platform === undefined && isIndexType(mediaType)) ??
    candidates.find(({ platform }) => platform === undefined);
  if (found !== undefined) return found;
  const platforms = candidates
    .slice(0, 20)
    .map(({ platform }) => `${platform?.os}/${platform?.architecture}`);
  throw new ShimError(
    'not-found',
    `image index has no entry for linux/${architecture} or WebAssembly; it has ${platforms.length === 0 ? 'none at all' : platforms.join(', ')}: build the image for this platform`,
  );
}
