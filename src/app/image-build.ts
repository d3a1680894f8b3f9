import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ShimError } from '../error.ts';
import { writeArchive } from './archive-writer.ts';
import { BlobSet, type BuiltImage } from './image-built.ts';
import { assembleImage, type ImageShape, inferAnnotations } from './image-shape.ts';
import { checkWasmSource } from './image-wasm.ts';
import type { LockedApp, LockedComponent } from './locked-app.ts';
import type { ContentRef, LockedFile } from './locked-app-content.ts';
import { serializeLockedApp } from './locked-app-serialize.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';

export type BuildOptions = {
  readonly shape: ImageShape;
  /** Empty folder for archives while the image is in use. */
  readonly workDir: string;
  /** One archive for the files of each component in place of one layer for each file. Default: above 499 layers. */
  readonly archiveLayers?: boolean;
  /** Added to the inferred ones, and stronger. */
  readonly annotations?: ReadonlyMap<string, string>;
  /** Time of creation for annotation and config. Default: now. */
  readonly created?: Date;
};

/** Content of at most this many bytes is put into the locked app itself. */
export const maxInlineBytes = 128;
/** Most layers besides the locked app before files go into archives. */
export const maxPlainLayers = 499;

async function digestOfFile(path: string): Promise<{ digest: string; size: number; head: Buffer }> {
  const hash = createHash('sha256');
  let size = 0;
  let head = Buffer.alloc(0);
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.byteLength;
    if (head.byteLength < maxInlineBytes) head = Buffer.concat([head, chunk.subarray(0, maxInlineBytes)]);
  }
  return { digest: `sha256:${hash.digest('hex')}`, size, head: head.subarray(0, maxInlineBytes) };
}

/** A content reference with its bytes measured. */
type Measured = {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
  readonly ref: ContentRef;
};

/** Measures a local file that a reference names by a `file:` URL, and makes the reference what it is in an image. */
async function measure(ref: ContentRef, what: string): Promise<Measured> {
  if (ref.source === undefined || !ref.source.startsWith('file:')) {
    throw new ShimError(
      'failed-precondition',
      `${what} is not a file on this machine: load the app from its folder first`,
    );
  }
  const path = fileURLToPath(ref.source);
  const { digest, size, head } = await digestOfFile(path).catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new ShimError('not-found', `${what}, "${path}", cannot be read (${code}): build the app first`, {
      cause: error,
    });
  });
  const { contentType } = ref;
  return {
    path,
    digest,
    size,
    ref: {
      ...(contentType === undefined ? {} : { contentType }),
      ...(size <= maxInlineBytes ? { inline: new Uint8Array(head) } : {}),
      digest,
    },
  };
}

type MeasuredComponent = {
  readonly component: LockedComponent;
  readonly source: Measured;
  readonly files: readonly (Measured & { readonly name: string })[];
};

async function measureComponent(component: LockedComponent): Promise<MeasuredComponent> {
  if (component.dependencies.length > 0) {
    throw new ShimError(
      'unsupported',
      `component "${component.id}" has dependencies that are not composed into it: compose them when building, then push`,
    );
  }
  const source = await measure(component.source, `source of component "${component.id}"`);
  await checkWasmSource(source.path, component.id);
  const files: (Measured & { name: string })[] = [];
  for (const { path, content } of component.files) {
    files.push({ name: path, ...(await measure(content, `file "${path}" of component "${component.id}"`)) });
  }
  return { component, source, files };
}

/**
 * Makes an image of an app whose content references are `file:` URLs on this machine. Nothing is copied: blobs are read
 * from where the files are, and verified once more when the image is pushed or written.
 * Throws `failed-precondition`, `not-found`, `invalid-component`, `unsupported`.
 */
export async function buildImage(app: LockedApp, options: BuildOptions): Promise<BuiltImage> {
  const components: MeasuredComponent[] = [];
  for (const component of app.components) components.push(await measureComponent(component));
  const blobs = new BlobSet();
  const plain = new Set(
    components.flatMap(({ source, files }) => [
      source.digest,
      ...layerFiles(files).map(({ digest }) => digest),
    ]),
  );
  const archived = options.archiveLayers === true || plain.size > maxPlainLayers;
  const layers = new Map<string, Descriptor>();
  for (const [i, { source, files }] of components.entries()) {
    const wasm = blobs.addFile(source, mediaTypes.wasmLayer);
    layers.set(wasm.digest, wasm);
    const assets = archived
      ? await addArchive(blobs, files, join(options.workDir, `${i}.tar.gz`))
      : layerFiles(files).map((file) => blobs.addFile(file, mediaTypes.dataLayer));
    for (const layer of assets) layers.set(layer.digest, layer);
  }
  const locked = withContent(app, components);
  const lockedApp = blobs.addBytes(Buffer.from(serializeLockedApp(locked)), mediaTypes.spinApp);
  layers.set(lockedApp.digest, lockedApp);
  const annotations = inferAnnotations(app, options.created ?? new Date(), options.annotations);
  return assembleImage(blobs, [...layers.values()], lockedApp, annotations, options.shape);
}

/** Files that need a layer of their own. */
function layerFiles<T extends Measured>(files: readonly T[]): readonly T[] {
  return files.filter(({ size }) => size > maxInlineBytes);
}

async function addArchive(
  blobs: BlobSet,
  files: MeasuredComponent['files'],
  target: string,
): Promise<readonly Descriptor[]> {
  if (files.length === 0) return [];
  await writeArchive(
    files.map(({ name, path, size }) => ({ path: name, file: path, size })),
    target,
  );
  return [blobs.addFile({ path: target, ...(await digestOfFile(target)) }, mediaTypes.archiveLayer)];
}

function withContent(app: LockedApp, components: readonly MeasuredComponent[]): LockedApp {
  return {
    ...app,
    components: components.map(({ component, source, files }) => {
      const { fileGrants: _, ...rest } = component;
      const lockedFiles = files.map(({ name, ref }): LockedFile => ({ path: name, content: ref }));
      return { ...rest, source: source.ref, files: lockedFiles };
    }),
  };
}
