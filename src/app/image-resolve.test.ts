import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sha256Digest } from './blob-verify.ts';
import { BlobSet, BuiltImage } from './image-built.ts';
import { hostArchitecture, maxIndexDepth, resolveImage, selectPlatform } from './image-resolve.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';

const entry = (platform?: string, mediaType: string = mediaTypes.manifest): Descriptor => {
  const [os = '', architecture = ''] = platform?.split('/') ?? [];
  return {
    mediaType,
    digest: sha256Digest(platform ?? 'none'),
    size: 1,
    ...(platform === undefined ? {} : { platform: { os, architecture } }),
  };
};

describe('selectPlatform', () => {
  const cases: readonly (readonly [string, readonly Descriptor[], number])[] = [
    ['the host before wasm', [entry('wasip1/wasm'), entry('linux/arm64'), entry('linux/amd64')], 2],
    ['wasip1/wasm', [entry('windows/amd64'), entry('wasip1/wasm')], 1],
    ['wasi/wasm', [entry('unknown/unknown'), entry('wasi/wasm')], 1],
    ['wasi/wasm32', [entry('wasi/wasm32')], 0],
    ['Wasip1/wasm as Spin once wrote it', [entry('Wasip1/wasm')], 0],
    ['an entry without a platform', [entry('unknown/unknown'), entry()], 1],
    ['a nested index without a platform', [entry(), entry(undefined, mediaTypes.index)], 1],
  ];
  for (const [name, entries, index] of cases) {
    it(`takes ${name}`, () => assert.equal(selectPlatform(entries, 'amd64'), entries[index]));
  }

  it('lists what there is when nothing fits', () => {
    const entries = [entry('linux/arm64'), entry('windows/amd64'), entry('unknown/unknown')];
    assert.throws(() => selectPlatform(entries, 'amd64'), {
      code: 'not-found',
      message: /no entry for linux\/amd64 .* has linux\/arm64, windows\/amd64:/,
    });
    assert.throws(() => selectPlatform([], 'amd64'), /none at all/);
  });
});

describe('resolveImage', () => {
  const blobs = new BlobSet();
  const put = (mediaType: string, document: object): Descriptor =>
    blobs.addBytes(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...document })), mediaType);
  const manifest = put(mediaTypes.manifest, {
    config: blobs.addBytes(Buffer.from('{}'), mediaTypes.config),
    layers: [],
  });
  const nested = (depth: number): Descriptor =>
    depth === 0 ? manifest : put(mediaTypes.index, { manifests: [nested(depth - 1)] });
  const source = (root: Descriptor): BuiltImage =>
    new BuiltImage({ root, manifests: [], blobs: [], contents: blobs.contents });

  it('takes a lone manifest whatever its config says, by reference or descriptor', async () => {
    assert.equal((await resolveImage(source(manifest), 'any')).descriptor, manifest);
    assert.equal((await resolveImage(source(manifest), manifest)).manifest.kind, 'manifest');
  });

  it('follows indexes to the bound and no further', async () => {
    const deep = nested(maxIndexDepth);
    assert.equal((await resolveImage(source(deep), deep)).descriptor.digest, manifest.digest);
    const deeper = nested(maxIndexDepth + 1);
    await assert.rejects(resolveImage(source(deeper), deeper), {
      code: 'invalid-image',
      message: /more than 3 deep/,
    });
  });

  it('refuses a manifest that is not what its descriptor says', async () => {
    const lying = { ...manifest, size: manifest.size + 1 };
    await assert.rejects(resolveImage(source(lying), lying), { code: 'digest-mismatch' });
    const huge = { ...manifest, size: 5 * 1024 * 1024 };
    await assert.rejects(resolveImage(source(huge), huge), { code: 'resource-exhausted' });
  });

  it('knows this machine by the name that images use', () => {
    assert.match(hostArchitecture(), /^(amd64|arm64|arm|386|riscv64|ppc64le|s390x)$/);
  });
});
