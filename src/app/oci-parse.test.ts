import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  maxImageManifestBytes,
  maxLayers,
  parseDescriptor,
  parseImageConfig,
  parseImageManifest,
  sniffManifestType,
} from './oci-parse.ts';
import { mediaTypes } from './oci-types.ts';

const digest = `sha256:${'0'.repeat(64)}`;
const descriptor = { mediaType: mediaTypes.config, digest, size: 2 };
const bytes = (value: unknown): Buffer =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const manifest = (changes: object = {}): Buffer =>
  bytes({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: descriptor,
    layers: [descriptor],
    ...changes,
  });

describe('parseImageManifest', () => {
  it('reads a manifest with annotations', () => {
    const parsed = parseImageManifest(manifest({ annotations: { a: 'b' } }), mediaTypes.manifest);
    assert.equal(parsed.kind, 'manifest');
    assert.deepEqual(parsed.kind === 'manifest' && parsed.layers, [descriptor]);
    assert.equal(parsed.annotations.get('a'), 'b');
  });

  it('reads an index with platforms', () => {
    const entry = {
      ...descriptor,
      mediaType: mediaTypes.manifest,
      platform: { os: 'linux', architecture: 'amd64' },
    };
    const parsed = parseImageManifest(bytes({ schemaVersion: 2, manifests: [entry] }), mediaTypes.index);
    assert.deepEqual(parsed.kind === 'index' && parsed.manifests, [entry]);
  });

  it('keeps names out of the image in maps', () => {
    const text = manifest()
      .toString()
      .replace('"layers"', '"annotations":{"__proto__":"x","constructor":"y"},"layers"');
    const parsed = parseImageManifest(bytes(text), mediaTypes.manifest);
    assert.deepEqual(
      [...parsed.annotations],
      [
        ['__proto__', 'x'],
        ['constructor', 'y'],
      ],
    );
    assert.equal(({} as Record<string, unknown>).x, undefined);
  });

  it('does not take fields from a prototype', () => {
    const text = `{"__proto__":{"schemaVersion":2,"config":{},"layers":[]}}`;
    assert.throws(() => parseImageManifest(bytes(text), mediaTypes.manifest), /schemaVersion/);
  });

  const broken: readonly (readonly [string, Buffer, string, RegExp])[] = [
    ['text', bytes('x'), mediaTypes.manifest, /not JSON/],
    ['bad UTF-8', Buffer.from([0x22, 0xff, 0x22]), mediaTypes.manifest, /not JSON in UTF-8/],
    ['a list', bytes([]), mediaTypes.manifest, /not a JSON object/],
    ['deep nesting', bytes('['.repeat(1_000_000)), mediaTypes.manifest, /not JSON/],
    ['schema 1', manifest({ schemaVersion: 1 }), mediaTypes.manifest, /schemaVersion/],
    [
      'another media type inside',
      manifest({ mediaType: mediaTypes.index }),
      mediaTypes.manifest,
      /calls itself/,
    ],
    ['an unknown media type', manifest({ mediaType: 'a/b' }), 'a/b', /neither a manifest nor an index/],
    ['manifests in a manifest', manifest({ manifests: [] }), mediaTypes.manifest, /only an index/],
    [
      'layers in an index',
      bytes({ schemaVersion: 2, manifests: [], layers: [] }),
      mediaTypes.index,
      /has layers/,
    ],
    [
      'a config of text',
      manifest({ config: 'x' }),
      mediaTypes.manifest,
      /config of the .* is not a JSON object/,
    ],
    ['layers as an object', manifest({ layers: {} }), mediaTypes.manifest, /is not a list/],
    ['annotations of numbers', manifest({ annotations: { a: 1 } }), mediaTypes.manifest, /is not a string/],
  ];
  for (const [name, input, mediaType, message] of broken) {
    it(`refuses ${name}`, () => {
      assert.throws(() => parseImageManifest(input, mediaType), { code: 'invalid-image', message });
    });
  }

  it('bounds bytes and layers', () => {
    const layers = (count: number): Buffer => manifest({ layers: Array(count).fill(descriptor) });
    const most = parseImageManifest(layers(maxLayers), mediaTypes.manifest);
    assert.equal(most.kind === 'manifest' && most.layers.length, maxLayers);
    assert.throws(() => parseImageManifest(layers(maxLayers + 1), mediaTypes.manifest), /at most 1000/);
    const padded = (length: number): Buffer =>
      Buffer.concat([manifest(), Buffer.alloc(length - manifest().length, ' ')]);
    assert.ok(parseImageManifest(padded(maxImageManifestBytes), mediaTypes.manifest));
    assert.throws(
      () => parseImageManifest(padded(maxImageManifestBytes + 1), mediaTypes.manifest),
      /at most 4194304/,
    );
  });
});

describe('parseDescriptor', () => {
  for (const change of [
    { digest: 'md5:d41d8cd98f00b204e9800998ecf8427e' },
    { digest: `sha256:${'0'.repeat(63)}` },
    { digest: '../../etc/passwd' },
    { size: -1 },
    { size: 1.5 },
    { size: '2' },
    { size: 2 ** 53 },
    { mediaType: 7 },
    { mediaType: 'x'.repeat(256) },
    { platform: { os: 'linux' } },
  ]) {
    it(`refuses ${JSON.stringify(change).slice(0, 60)}`, () => {
      assert.throws(() => parseDescriptor({ ...descriptor, ...change }, 'it'), { code: 'invalid-image' });
    });
  }
});

describe('parseImageConfig', () => {
  it('reads what is there and takes an empty config', () => {
    const full = parseImageConfig(
      bytes({
        os: 'linux',
        architecture: 'arm64',
        config: { Labels: { l: 'v' } },
        rootfs: { diff_ids: [digest] },
      }),
    );
    assert.deepEqual(full, {
      os: 'linux',
      architecture: 'arm64',
      labels: new Map([['l', 'v']]),
      diffIds: [digest],
    });
    assert.deepEqual(parseImageConfig(bytes('{}')), {
      os: '',
      architecture: '',
      labels: new Map(),
      diffIds: [],
    });
    assert.deepEqual(parseImageConfig(bytes({ config: null, rootfs: { diff_ids: null } })).diffIds, []);
  });
});

describe('sniffManifestType', () => {
  it('goes by the own word, then by the shape', () => {
    assert.equal(
      sniffManifestType(manifest({ mediaType: mediaTypes.dockerManifest })),
      mediaTypes.dockerManifest,
    );
    assert.equal(sniffManifestType(bytes({ manifests: [] })), mediaTypes.index);
    assert.equal(sniffManifestType(bytes({ layers: [] })), mediaTypes.manifest);
    assert.throws(() => sniffManifestType(bytes({})), { code: 'invalid-image' });
  });
});
