import assert from 'node:assert/strict';
import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { sha256Digest } from './blob-verify.ts';
import { BlobSet, BuiltImage } from './image-built.ts';
import { loadImage } from './image-load.ts';
import type { Descriptor } from './oci-types.ts';
import { mediaTypes } from './oci-types.ts';

const wasm = Buffer.from('0061736d01000000', 'hex');
const page = Buffer.from('p'.repeat(1000));

/** An image from layers; the last argument changes the config's media type and bytes. */
function imageOf(
  layers: readonly (readonly [string, Buffer | string])[],
  config: readonly [string, string] = [mediaTypes.config, '{}'],
): BuiltImage {
  const blobs = new BlobSet();
  const add = ([mediaType, bytes]: readonly [string, Buffer | string]): Descriptor => ({
    ...blobs.addBytes(Buffer.from(bytes), mediaType),
    mediaType,
  });
  const manifest = { schemaVersion: 2, config: add(config), layers: layers.map(add) };
  const root = blobs.addBytes(Buffer.from(JSON.stringify(manifest)), mediaTypes.manifest);
  return new BuiltImage({
    root,
    manifests: [],
    blobs: [...blobs.descriptors.values()],
    contents: blobs.contents,
  });
}

type FileEntry = { path: string; digest?: string; inline?: string; source?: string };

function lockedApp(
  files: readonly FileEntry[] = [],
  source: object = { digest: sha256Digest(wasm) },
): string {
  const trigger = (id: string) => ({
    id: `trigger-${id}`,
    trigger_type: 'http',
    trigger_config: { route: `/${id}`, component: id },
  });
  return JSON.stringify({
    spin_lock_version: 0,
    metadata: { name: 'app', version: '1.0.0' },
    triggers: [trigger('one'), trigger('two')],
    components: [
      { id: 'one', source: { content_type: 'application/wasm', ...source }, files },
      { id: 'two', source: { content_type: 'application/wasm', digest: sha256Digest(wasm) } },
    ],
  });
}

async function archiveOf(entries: readonly (readonly [string, Buffer])[]): Promise<Buffer> {
  const archive = pack();
  for (const [name, content] of entries) archive.entry({ name }, content);
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive as AsyncIterable<Uint8Array>) chunks.push(chunk);
  return gzipSync(Buffer.concat(chunks));
}

describe('loadImage', () => {
  const folders: string[] = [];
  let storeDir: string;
  beforeEach(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'image-'));
    folders.push(folder);
    storeDir = join(folder, 'deep', 'store');
  });
  after(async () => {
    for (const folder of folders) await rm(folder, { recursive: true });
  });

  const load = (image: BuiltImage, options: object = {}) =>
    loadImage(image, image.root, { storeDir, ...options });
  const loadApp = async (image: BuiltImage, options: object = {}) => {
    const loaded = await load(image, options);
    assert.ok(loaded.kind !== 'none');
    return loaded;
  };

  it('loads a Spin app: sources, files of every kind, digest', async () => {
    const image = imageOf([
      [mediaTypes.layerTarGzip, 'not looked at'],
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.dataLayer, page],
      [
        mediaTypes.spinApp,
        lockedApp([
          { path: 'pages/page.html', digest: sha256Digest(page) },
          {
            path: 'small.txt',
            digest: sha256Digest('small'),
            inline: Buffer.from('small').toString('base64'),
          },
        ]),
      ],
    ]);
    const { kind, app, manifestDigest } = await loadApp(image);
    assert.equal(kind, 'spin');
    assert.equal(manifestDigest, image.root.digest);
    assert.equal(app.ociImageDigest, image.root.digest);
    const [one, two] = app.components;
    assert.deepEqual(await readFile(one?.source.path ?? ''), wasm);
    assert.equal(one?.source.digest, sha256Digest(wasm));
    assert.deepEqual(two?.files, []);
    const [mount, ...more] = one?.files ?? [];
    assert.deepEqual(more, []);
    assert.equal(mount?.destination, '/');
    const root = mount?.source ?? '';
    assert.deepEqual(await readFile(join(root, 'pages/page.html')), page);
    assert.equal(await readFile(join(root, 'small.txt'), 'utf8'), 'small');
    assert.deepEqual((await readdir(root)).sort(), ['pages', 'small.txt']);
    assert.equal((await stat(join(root, 'small.txt'))).mode & 0o777, 0o444);
    assert.equal((await stat(storeDir)).mode & 0o777, 0o700);
  });

  it('uses what the store holds without reading it again', async () => {
    const layers = [
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.spinApp, lockedApp()],
    ] as const;
    const first = await loadApp(imageOf(layers));
    const image = imageOf(layers);
    const read: string[] = [];
    const counting = {
      resolve: () => image.resolve(''),
      read: (descriptor: Descriptor) => {
        read.push(descriptor.mediaType);
        return image.read(descriptor);
      },
    };
    const second = await loadImage(counting, 'again', { storeDir });
    assert.deepEqual(second, first);
    assert.deepEqual(read, [mediaTypes.manifest, mediaTypes.spinApp]);
  });

  it('reads the oldest shape, with the locked app as config', async () => {
    const { app } = await loadApp(imageOf([[mediaTypes.wasmLayer, wasm]], [mediaTypes.spinApp, lockedApp()]));
    assert.equal(app.components.length, 2);
  });

  it('unpacks only what the app lists out of archives, wherever their names point', async () => {
    const archive = await archiveOf([
      ['../../../escape', page],
      ['junk', Buffer.from('nobody wants this')],
    ]);
    const layers = [
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.archiveLayer, archive],
      [mediaTypes.spinApp, lockedApp([{ path: 'page', digest: sha256Digest(page) }])],
    ] as const;
    const { app } = await loadApp(imageOf(layers));
    assert.deepEqual(await readFile(join(app.components[0]?.files[0]?.source ?? '', 'page')), page);
    const stored = await readdir(join(storeDir, 'blobs/sha256'));
    assert.deepEqual(stored.sort(), [wasm, page].map((bytes) => sha256Digest(bytes).slice(7)).sort());
    assert.deepEqual((await readdir(storeDir)).sort(), ['assets', 'blobs']);
    assert.deepEqual((await readdir(join(storeDir, '..'))).sort(), ['store']);
  });

  it('leaves nothing of a hostile archive behind', async () => {
    const bomb = await archiveOf([['zeros', Buffer.alloc(32 * 1024 * 1024)]]);
    const lying = await archiveOf([['page', Buffer.from('other bytes')]]);
    const files = lockedApp([{ path: 'page', digest: sha256Digest(page) }]);
    for (const [archive, code] of [
      [bomb, 'resource-exhausted'],
      [lying, 'invalid-image'],
      [Buffer.from('no archive'), 'invalid-image'],
    ] as const) {
      const image = imageOf([
        [mediaTypes.wasmLayer, wasm],
        [mediaTypes.archiveLayer, archive],
        [mediaTypes.spinApp, files],
      ]);
      await assert.rejects(load(image), { code });
      assert.deepEqual(await readdir(join(storeDir, 'blobs/sha256')), [sha256Digest(wasm).slice(7)]);
    }
  });

  it('counts the bytes of all archives together', async () => {
    const junk = (fill: string): Promise<Buffer> => archiveOf([['junk', Buffer.alloc(100_000, fill)]]);
    const image = imageOf([
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.archiveLayer, await junk('a')],
      [mediaTypes.archiveLayer, await junk('b')],
      [mediaTypes.archiveLayer, await archiveOf([['page', page]])],
      [mediaTypes.spinApp, lockedApp([{ path: 'page', digest: sha256Digest(page) }])],
    ]);
    await assert.rejects(load(image, { limits: { maxBytes: 200_000 } }), { code: 'resource-exhausted' });
    await loadApp(image, { limits: { maxBytes: 250_000 } });
  });

  it('reads only the layers of retained components', async () => {
    const other = Buffer.concat([wasm, Buffer.from([0, 1, 0])]);
    const image = imageOf([
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.wasmLayer, other],
      [mediaTypes.spinApp, lockedApp([], { digest: sha256Digest(other) })],
    ]);
    const { app } = await loadApp(image, { retain: ['two'] });
    assert.deepEqual(
      app.components.map(({ id }) => id),
      ['two'],
    );
    assert.deepEqual(await readdir(join(storeDir, 'blobs/sha256')), [sha256Digest(wasm).slice(7)]);
    await assert.rejects(load(image, { retain: ['three'] }), { code: 'failed-precondition' });
  });

  it('makes an app of a component pushed by wkg', async () => {
    const { kind, app } = await loadApp(imageOf([[mediaTypes.wkg, wasm]]));
    assert.equal(kind, 'wkg');
    assert.equal(app.name, sha256Digest(wasm));
    assert.deepEqual(
      app.triggers.map((trigger) => trigger.type === 'http' && trigger.route),
      [{ kind: 'path', path: '/...' }],
    );
    assert.deepEqual(await readFile(app.components[0]?.source.path ?? ''), wasm);
    assert.deepEqual(app.components[0]?.allowedOutboundHosts, []);
  });

  it('says of an ordinary image that it is one, and makes no store', async () => {
    const loaded = await load(
      imageOf([[mediaTypes.layerTarGzip, 'x']], [mediaTypes.config, '{"architecture":"wasm"}']),
    );
    assert.equal(loaded.kind, 'none');
    await assert.rejects(lstat(storeDir), { code: 'ENOENT' });
  });

  const hostile: readonly (readonly [
    string,
    readonly (readonly [string, Buffer | string])[],
    string,
    RegExp,
  ])[] = [
    [
      'two wkg layers',
      [
        [mediaTypes.wkg, wasm],
        [mediaTypes.wkg, page],
      ],
      'invalid-image',
      /1 more/,
    ],
    [
      'a wkg layer beside an app',
      [
        [mediaTypes.wkg, wasm],
        [mediaTypes.spinApp, lockedApp()],
      ],
      'invalid-image',
      /only one/,
    ],
    ['layers without an app', [[mediaTypes.wasmLayer, wasm]], 'invalid-image', /0 locked apps/],
    [
      'two apps',
      [
        [mediaTypes.spinApp, lockedApp()],
        [mediaTypes.spinApp, lockedApp([])],
      ],
      'invalid-image',
      /2 locked apps/,
    ],
    [
      'a missing source',
      [[mediaTypes.spinApp, lockedApp()]],
      'invalid-image',
      /source of component "one" is the blob sha256/,
    ],
    [
      'a source elsewhere',
      [[mediaTypes.spinApp, lockedApp([], { source: 'file:///etc/passwd' })]],
      'invalid-image',
      /outside of the image/,
    ],
    [
      'inline bytes that are not what they should be',
      [
        [mediaTypes.wasmLayer, wasm],
        [mediaTypes.spinApp, lockedApp([{ path: 'a', digest: sha256Digest('x'), inline: 'eXk=' }])],
      ],
      'digest-mismatch',
      /inline content of the file "a"/,
    ],
  ];
  for (const [name, layers, code, message] of hostile) {
    it(`refuses ${name}`, async () => {
      await assert.rejects(load(imageOf(layers)), { code, message });
    });
  }

  for (const path of ['../escape', '/abs', 'a/../../b', 'a//b', '.', 'a/./b', '', 'a\0b']) {
    it(`refuses the path ${JSON.stringify(path)}`, async () => {
      const layers = [
        [mediaTypes.wasmLayer, wasm],
        [mediaTypes.spinApp, lockedApp([{ path, inline: 'eA==' }])],
      ] as const;
      await assert.rejects(load(imageOf(layers)), { code: 'invalid-image' });
    });
  }

  it('refuses files in the way of each other and names too long, leaving no folder', async () => {
    for (const paths of [['a', 'a/b'], ['x'.repeat(300)]]) {
      const files = paths.map((path) => ({ path, inline: 'eA==' }));
      const image = imageOf([
        [mediaTypes.wasmLayer, wasm],
        [mediaTypes.spinApp, lockedApp(files)],
      ]);
      await assert.rejects(load(image), {
        code: 'invalid-image',
        message: /push the app again with another path/,
      });
      assert.deepEqual(await readdir(join(storeDir, 'assets')), []);
    }
  });

  it('bounds layers and the whole image', async () => {
    const image = imageOf([
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.dataLayer, page],
      [mediaTypes.spinApp, lockedApp([{ path: 'p', digest: sha256Digest(page) }])],
    ]);
    const total = page.length + wasm.length;
    await assert.rejects(load(image, { limits: { maxImageBytes: total - 1 } }), {
      code: 'resource-exhausted',
    });
    await assert.rejects(load(image, { limits: { maxLayerBytes: page.length - 1 } }), {
      code: 'resource-exhausted',
    });
    await assert.rejects(load(image, { limits: { maxFiles: 2 } }), { code: 'resource-exhausted' });
    await assert.rejects(load(image, { limits: { maxAssetBytes: page.length - 1 } }), {
      code: 'resource-exhausted',
    });
    const limits = {
      maxImageBytes: total,
      maxLayerBytes: page.length,
      maxFiles: 3,
      maxAssetBytes: page.length,
    };
    await loadApp(image, { limits });
  });

  it('refuses a store that others can reach or that is a link', async () => {
    const image = imageOf([[mediaTypes.wkg, wasm]]);
    await loadApp(image);
    await chmod(storeDir, 0o755);
    await assert.rejects(load(image), { code: 'permission-denied', message: /mode 755/ });
    await chmod(storeDir, 0o700);
    await symlink(storeDir, `${storeDir}-link`);
    await assert.rejects(loadImage(image, image.root, { storeDir: `${storeDir}-link` }), {
      code: 'permission-denied',
    });
  });

  it('serves many at once from one store', async () => {
    const image = imageOf([
      [mediaTypes.wasmLayer, wasm],
      [mediaTypes.dataLayer, page],
      [mediaTypes.spinApp, lockedApp([{ path: 'p', digest: sha256Digest(page) }])],
    ]);
    const apps = await Promise.all(Array.from({ length: 8 }, () => load(image)));
    for (const app of apps) assert.deepEqual(app, apps[0]);
    assert.equal((await readdir(join(storeDir, 'assets'))).length, 1);
  });
});
