import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pushApp } from '../../src/app/push.ts';
import { withLockedFolder } from '../../src/app/push-folder.ts';
import {
  appImage,
  assembleImage,
  digestOf,
  indexOf,
  mediaTypes,
  type OciImage,
  pushImage,
} from '../support/images.ts';
import type { PrivateRegistry } from '../support/registry.ts';

/** The smallest sample app, and what of its folder an image needs. */
export const helloFolder = join(import.meta.dirname, '..', '..', 'fixtures', 'hello');
export const helloFiles = ['spin.toml', 'hello.wasm'];

/** One way to put an app into an image, and from which release on containerd pulls and runs it. */
export type ImageForm = {
  readonly name: string;
  /** Pushes the hello app in this form; gives its reference. */
  readonly push: (registry: PrivateRegistry) => Promise<string>;
  /** Set where the image names no entrypoint and the pod has to. */
  readonly command?: readonly string[];
  /** The platform the image names, where that is not the node's. */
  readonly platform?: string;
  /** Whether containerd `major.minor` is known to take it. */
  readonly taken: (release: { readonly major: number; readonly minor: number }) => boolean;
};

const always = (): boolean => true;

export const imageForms: readonly ImageForm[] = [
  {
    name: 'spinshim push --shape universal',
    push: (registry) => pushFolder(registry, 'universal'),
    taken: always,
  },
  {
    name: 'spin registry push (custom layers only)',
    push: (registry) => pushFolder(registry, 'spin'),
    command: ['/'],
    taken: ({ major, minor }) => major > 1 || minor >= 7,
  },
  {
    name: 'FROM scratch, linux',
    push: pushTarImage,
    taken: always,
  },
  {
    name: 'FROM scratch, wasip1/wasm',
    push: async (registry) => pushImage(registry, await wasmImage(), 'tar-wasm', '1'),
    platform: 'wasip1/wasm',
    taken: always,
  },
  {
    name: 'index with wasip1/wasm alone',
    push: async (registry) => pushImage(registry, indexOf([await wasmImage()]), 'index-wasm', '1'),
    platform: 'wasip1/wasm',
    taken: () => false,
  },
  {
    name: 'custom layers with diff ids',
    push: async (registry) => pushImage(registry, await listedLayers(), 'listed', '1'),
    command: ['/'],
    taken: () => false,
  },
];

/** Pushes the app of a folder as the `spinshim push` command does. */
export async function pushFolder(
  registry: PrivateRegistry,
  shape: 'universal' | 'spin',
  folder = helloFolder,
  name = `${shape}:1`,
): Promise<string> {
  const reference = `${registry.host}/${name}`;
  const manifest = join(folder, 'spin.toml');
  await withLockedFolder(manifest, (app) => pushApp(app, reference, { shape, insecure: true }));
  return reference;
}

/** What a Dockerfile makes of the app: one ordinary layer. */
export async function pushTarImage(registry: PrivateRegistry): Promise<string> {
  return pushImage(registry, await appImage(helloFolder, { paths: helloFiles }), 'tar', '1');
}

function wasmImage(): Promise<OciImage> {
  return appImage(helloFolder, { paths: helloFiles, os: 'wasip1', arch: 'wasm' });
}

/** A component in a custom layer whose digest the config lists as if it could be unpacked. */
async function listedLayers(): Promise<OciImage> {
  const wasm = await readFile(join(helloFolder, 'hello.wasm'));
  const config = {
    architecture: 'wasm',
    os: 'wasip1',
    rootfs: { type: 'layers', diff_ids: [digestOf(wasm)] },
  };
  return assembleImage({
    configType: mediaTypes.config,
    config: Buffer.from(JSON.stringify(config)),
    layers: [{ mediaType: 'application/wasm', content: wasm }],
  });
}

/** An app whose component is not in the image: its container cannot start, and has to say why. */
export async function pushBrokenApp(registry: PrivateRegistry): Promise<string> {
  return pushImage(registry, await appImage(helloFolder, { paths: ['spin.toml'] }), 'broken', '1');
}
