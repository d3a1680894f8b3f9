import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { BlobSource } from '../app/blob-source.ts';
import { type Descriptor, mediaTypes } from '../app/oci-types.ts';
import { ShimError } from '../error.ts';
import { SpinImages } from './spin-image.ts';

const layerDigest = `sha256:${'a'.repeat(64)}`;

/** The images of a node that has one, with these layers; it counts how often its manifest is read. */
class OneImage implements BlobSource {
  reads = 0;
  readonly #manifest: Buffer;
  readonly #target: Descriptor;

  constructor(layerTypes: readonly string[], configType: string = mediaTypes.config) {
    const blob = (mediaType: string) => ({ mediaType, digest: layerDigest, size: 1 });
    const manifest = { schemaVersion: 2, config: blob(configType), layers: layerTypes.map(blob) };
    this.#manifest = Buffer.from(JSON.stringify(manifest));
    const digest = `sha256:${createHash('sha256').update(this.#manifest).digest('hex')}`;
    this.#target = { mediaType: mediaTypes.manifest, digest, size: this.#manifest.length };
  }

  resolve = async (): Promise<Descriptor> => this.#target;

  async *read(): AsyncIterable<Uint8Array> {
    this.reads++;
    yield this.#manifest;
  }
}

const imageOf = async () => ({ name: 'app:1', digest: layerDigest });
const ask = (blobs: BlobSource): Promise<boolean> => new SpinImages(blobs, imageOf).isSpin('c');

test('layers of an app or a component make an image one of ours', async () => {
  const { layerTarGzip, spinApp, wasmLayer, archiveLayer, wkg } = mediaTypes;
  for (const type of [spinApp, wasmLayer, archiveLayer, wkg]) {
    assert.equal(await ask(new OneImage([layerTarGzip, type])), true, type);
  }
  assert.equal(await ask(new OneImage([], spinApp)), true);
  assert.equal(await ask(new OneImage([layerTarGzip])), false);
  assert.equal(await ask(new OneImage([])), false);
});

test('a manifest is read once', async () => {
  const blobs = new OneImage([mediaTypes.layerTarGzip]);
  const images = new SpinImages(blobs, imageOf);
  for (let time = 0; time < 3; time++) assert.equal(await images.isSpin('c'), false);
  assert.equal(blobs.reads, 1);
});

test('a container without an image is none of ours', async () => {
  const images = new SpinImages(new OneImage([mediaTypes.spinApp]), async () => undefined);
  assert.equal(await images.isSpin('c'), false);
});

test('an image that cannot be read is none of ours, a containerd that does not answer is an error', async () => {
  const failing = (code: 'not-found' | 'invalid-image' | 'unavailable') =>
    new SpinImages(new OneImage([]), () => Promise.reject(new ShimError(code, 'no'))).isSpin('c');
  assert.equal(await failing('not-found'), false);
  assert.equal(await failing('invalid-image'), false);
  await assert.rejects(failing('unavailable'), { code: 'unavailable' });
});
