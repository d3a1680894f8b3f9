import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Ctr } from './ctr.ts';
import { staticProgram } from './static-program.ts';

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  tarGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

export type Descriptor = {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly os: string; readonly architecture: string };
};

/** An image in memory: the descriptor of its manifest or index, and every blob by digest, manifests included. */
export type OciImage = { readonly target: Descriptor; readonly blobs: ReadonlyMap<string, Buffer> };

/** A file of an image layer. */
export type LayerFile = { readonly content: string | Uint8Array; readonly mode?: number };

/** A layer as it is, of any media type. */
export type RawLayer = {
  readonly mediaType: string;
  readonly content: Buffer;
  readonly annotations?: Readonly<Record<string, string>>;
};

export type ImageInput = {
  /** Path in the image → file; the paths become one tar layer. */
  readonly files: ReadonlyMap<string, LayerFile>;
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  readonly env?: readonly string[];
  readonly user?: string;
  readonly workingDir?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Default `linux`. */
  readonly os?: string;
  /** Default this machine's. */
  readonly arch?: string;
  /** Layers after the tar layer, not listed in the config's diff ids (Spin's custom layers). */
  readonly extraLayers?: readonly RawLayer[];
};

/** The OCI name of this machine's architecture. */
export const hostArch: string = process.arch === 'x64' ? 'amd64' : process.arch;

/** `sha256:…` of some bytes. */
export function digestOf(content: Uint8Array): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

/** A tar archive with fixed times and root as the owner; folders are added before their files. */
export async function tarOf(files: ReadonlyMap<string, LayerFile>): Promise<Buffer> {
  const archive = pack();
  const folders = new Set<string>();
  const mtime = new Date(0);
  for (const [path, { content, mode = 0o644 }] of files) {
    const name = path.replace(/^\/+/, '');
    const parts = name.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++) {
      const folder = parts.slice(0, depth).join('/');
      if (folders.has(folder)) continue;
      folders.add(folder);
      archive.entry({ name: `${folder}/`, type: 'directory', mode: 0o755, mtime });
    }
    archive.entry({ name, mode, mtime }, Buffer.from(content));
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** An ordinary image with one gzipped tar layer, as a `FROM scratch` build makes it. */
export async function buildImage(input: ImageInput): Promise<OciImage> {
  const { os = 'linux', arch = hostArch } = input;
  const tar = await tarOf(input.files);
  const config = {
    architecture: arch,
    os,
    config: {
      ...(input.entrypoint && { Entrypoint: input.entrypoint }),
      ...(input.cmd && { Cmd: input.cmd }),
      ...(input.env && { Env: input.env }),
      ...(input.user && { User: input.user }),
      ...(input.workingDir && { WorkingDir: input.workingDir }),
      ...(input.labels && { Labels: input.labels }),
    },
    rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
  };
  const layer = { mediaType: mediaTypes.tarGzip, content: gzipSync(tar, { level: 1 }) };
  return assembleImage({
    configType: mediaTypes.config,
    config: Buffer.from(JSON.stringify(config)),
    layers: [layer, ...(input.extraLayers ?? [])],
    platform: { os, architecture: arch },
  });
}

/** A manifest around a config and layers of any kind; also the way to Spin's own artifact shape. */
export function assembleImage(input: {
  readonly configType: string;
  readonly config: Buffer;
  readonly layers: readonly RawLayer[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly os: string; readonly architecture: string };
}): OciImage {
  const blobs = new Map<string, Buffer>();
  const put = (mediaType: string, content: Buffer): Descriptor => {
    const digest = digestOf(content);
    blobs.set(digest, content);
    return { mediaType, digest, size: content.length };
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: put(input.configType, input.config),
    layers: input.layers.map((layer) => ({
      ...put(layer.mediaType, layer.content),
      ...(layer.annotations && { annotations: layer.annotations }),
    })),
    ...(input.annotations && { annotations: input.annotations }),
  };
  const target = put(mediaTypes.manifest, Buffer.from(JSON.stringify(manifest)));
  return { target: { ...target, ...(input.platform && { platform: input.platform }) }, blobs };
}

/** A multi-platform index over images. */
export function indexOf(images: readonly OciImage[]): OciImage {
  const blobs = new Map(images.flatMap((image) => [...image.blobs]));
  const manifests = images.map((image) => image.target);
  const content = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests }));
  const digest = digestOf(content);
  blobs.set(digest, content);
  return { target: { mediaType: mediaTypes.index, digest, size: content.length }, blobs };
}

/** What a Dockerfile `FROM scratch`, `COPY . /`, `ENTRYPOINT ["/spin.toml"]` makes of an app's folder. */
export async function appImage(
  folder: string,
  { paths, ...rest }: Omit<ImageInput, 'files'> & { readonly paths?: readonly string[] } = {},
): Promise<OciImage> {
  const files = await folderFiles(folder, paths);
  return buildImage({ entrypoint: ['/spin.toml'], ...rest, files });
}

/** The regular files below a folder by relative path; `paths` keeps only those files and folders. */
export async function folderFiles(
  folder: string,
  paths: readonly string[] = ['.'],
): Promise<Map<string, LayerFile>> {
  const names: string[] = [];
  for (const path of paths) {
    if ((await stat(join(folder, path))).isFile()) names.push(path);
    else
      names.push(...(await readdir(join(folder, path), { recursive: true })).map((name) => join(path, name)));
  }
  const files = new Map<string, LayerFile>();
  for (const name of names.sort()) {
    const status = await stat(join(folder, name));
    if (!status.isFile()) continue;
    files.set(name, { content: await readFile(join(folder, name)), mode: status.mode & 0o777 });
  }
  return files;
}

/** The sandbox image for pods under runc: one static program that waits. */
export async function pauseImage(): Promise<OciImage> {
  const files = new Map([['pause', { content: await staticProgram('pause'), mode: 0o755 }]]);
  return buildImage({ files, entrypoint: ['/pause'] });
}

/** A static C HTTP server that answers `hello` on port 80 (or `PORT`): the Linux container to compare with. */
export async function httpImage(): Promise<OciImage> {
  const files = new Map([['http', { content: await staticProgram('http'), mode: 0o755 }]]);
  return buildImage({ files, entrypoint: ['/http'] });
}

/** The OCI layout of an image as a tar archive, with the name under which containerd stores it. */
export async function layoutArchive(image: OciImage, name: string): Promise<Buffer> {
  const target = { ...image.target, annotations: { 'io.containerd.image.name': name } };
  const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [target] };
  const files = new Map<string, LayerFile>([
    ['oci-layout', { content: '{"imageLayoutVersion":"1.0.0"}' }],
    ['index.json', { content: JSON.stringify(index) }],
  ]);
  for (const [digest, content] of image.blobs) files.set(`blobs/${digest.replace(':', '/')}`, { content });
  return tarOf(files);
}

/** Puts an image into a containerd by `ctr image import`, unpacked for the given snapshotter. */
export async function importImage(
  containerd: { readonly snapshotter: string; ctr(namespace?: string): Ctr },
  image: OciImage,
  name: string,
  { namespace = 'k8s.io' } = {},
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-image-'));
  try {
    const archive = join(folder, 'image.tar');
    await writeFile(archive, await layoutArchive(image, name));
    const command = ['images', 'import', '--all-platforms', '--snapshotter', containerd.snapshotter, archive];
    await containerd.ctr(namespace).exec(command, { timeoutMs: 120_000 });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Pushes an image over plain HTTP; gives the reference to pull it by. */
export async function pushImage(
  registry: { readonly url: string; readonly host: string },
  image: OciImage,
  repository: string,
  tag: string,
): Promise<string> {
  const base = `${registry.url}/v2/${repository}`;
  const manifests = new Map(manifestsOf(image).map((descriptor) => [descriptor.digest, descriptor]));
  for (const [digest, content] of image.blobs) {
    if (manifests.has(digest)) continue;
    const opened = await expectStatus(await fetch(`${base}/blobs/uploads/`, { method: 'POST' }), 202);
    const place = new URL(opened.headers.get('location') ?? '', registry.url);
    place.searchParams.set('digest', digest);
    await expectStatus(await fetch(place, { method: 'PUT', body: new Uint8Array(content) }), 201);
  }
  for (const { digest, mediaType } of manifests.values()) {
    const reference = digest === image.target.digest ? tag : digest;
    const body = new Uint8Array(image.blobs.get(digest) ?? Buffer.alloc(0));
    const headers = { 'content-type': mediaType };
    await expectStatus(await fetch(`${base}/manifests/${reference}`, { method: 'PUT', headers, body }), 201);
  }
  return `${registry.host}/${repository}:${tag}`;
}

/** The manifests of an image, the target last. */
function manifestsOf(image: OciImage): Descriptor[] {
  if (image.target.mediaType !== mediaTypes.index) return [image.target];
  const index = JSON.parse(image.blobs.get(image.target.digest)?.toString('utf8') ?? '{}') as {
    manifests: Descriptor[];
  };
  return [...index.manifests, image.target];
}

async function expectStatus(response: Response, status: number): Promise<Response> {
  const text = await response.text();
  if (response.status === status) return response;
  throw new Error(`${response.url} answered ${response.status}, not ${status}: ${text}`);
}
