import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { sha256Digest, verifiedBytes } from './blob-verify.ts';
import type { Credential } from './credentials.ts';
import { loadImage } from './image-load.ts';
import { Layout } from './layout.ts';
import { type LockedApp, parseLockedApp } from './locked-app.ts';
import { parseImageName } from './oci-name.ts';
import { parseImageConfig, parseImageManifest } from './oci-parse.ts';
import type { Descriptor, ImageManifest } from './oci-types.ts';
import { lockedAppDigestLabel, mediaTypes } from './oci-types.ts';
import { pullToLayout } from './pull.ts';
import { type PushOptions, pushApp, writeLayout } from './push.ts';
import { Registry } from './registry.ts';
import { type RunningRegistry, startRegistry } from './registry-test-server.ts';

// A module with one custom section, long enough not to be inlined.
const wasm = Buffer.concat([
  Buffer.from('0061736d01000000', 'hex'),
  Buffer.from([0, 200, 1, 4]),
  Buffer.from('note'),
  Buffer.alloc(195, 'n'),
]);
const page = 'p'.repeat(129);
const note = 'n'.repeat(128);
const anonymous = async (): Promise<undefined> => undefined;
const created = new Date('2026-01-02T03:04:05Z');

async function makeApp(folder: string, files: ReadonlyMap<string, string>): Promise<LockedApp> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'app.wasm'), wasm);
  const entries: object[] = [];
  for (const [path, text] of files) {
    const file = join(folder, path.replaceAll('/', '-'));
    await writeFile(file, text);
    entries.push({ path, source: pathToFileURL(file).href });
  }
  const locked = {
    spin_lock_version: 0,
    metadata: { name: 'app', version: '1.2.3', description: 'an app', authors: ['A <a@x>', 'B'] },
    variables: { greeting: { default: 'hi' } },
    triggers: [{ id: 't', trigger_type: 'http', trigger_config: { route: '/...', component: 'web' } }],
    components: [
      {
        id: 'web',
        metadata: { allowed_outbound_hosts: ['https://example.com'] },
        source: { content_type: 'application/wasm', source: pathToFileURL(join(folder, 'app.wasm')).href },
        files: entries,
      },
    ],
  };
  return parseLockedApp(Buffer.from(JSON.stringify(locked)));
}

describe('push, load and pull with a real registry', () => {
  let registry: RunningRegistry;
  let folder: string;
  let app: LockedApp;
  let stores = 0;
  const open: Registry[] = [];
  const source = (reference: string): Registry => {
    const client = new Registry(parseImageName(reference), { credentials: anonymous, retryDelayMs: 1 });
    open.push(client);
    return client;
  };
  const freshFolder = (): string => join(folder, `fresh-${stores++}`);
  const load = (reference: string) => loadImage(source(reference), reference, { storeDir: freshFolder() });
  const push = (reference: string, options: Partial<PushOptions> = {}, what = app) =>
    pushApp(what, reference, { shape: 'spin', credentials: anonymous, created, ...options });

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'push-'));
    registry = await startRegistry();
    app = await makeApp(
      join(folder, 'app'),
      new Map([
        ['pages/page.html', page],
        ['note.txt', note],
      ]),
    );
  });
  after(async () => {
    for (const client of open) await client.close();
    await registry.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const manifestOf = async (client: Registry | Layout, descriptor: Descriptor): Promise<ImageManifest> => {
    const document = parseImageManifest(
      await verifiedBytes(client, descriptor, 100_000),
      descriptor.mediaType,
    );
    assert.ok(document.kind === 'manifest');
    return document;
  };

  it('pushes the shape of Spin', async () => {
    const reference = `${registry.host}/tests/spin:v1`;
    const { digest } = await push(reference, {
      annotations: new Map([['org.opencontainers.image.title', 'mine']]),
    });
    const client = source(reference);
    const root = await client.resolve(reference);
    assert.equal(root.digest, digest);
    const manifest = await manifestOf(client, root);
    assert.deepEqual(
      manifest.layers.map(({ mediaType }) => mediaType),
      [mediaTypes.wasmLayer, mediaTypes.dataLayer, mediaTypes.spinApp],
    );
    assert.deepEqual(
      [...manifest.annotations].map(([name, value]) => [
        name.replace('org.opencontainers.image.', ''),
        value,
      ]),
      [
        ['created', '2026-01-02T03:04:05.000Z'],
        ['authors', 'A <a@x>, B'],
        ['title', 'mine'],
        ['description', 'an app'],
        ['version', '1.2.3'],
      ],
    );
    const config = parseImageConfig(await verifiedBytes(client, manifest.config, 10_000));
    assert.equal(`${config.os}/${config.architecture}`, 'wasip1/wasm');
    assert.deepEqual(config.labels, new Map([[lockedAppDigestLabel, manifest.layers[2]?.digest]]));
    const last = manifest.layers[2];
    assert.ok(last);
    const locked = JSON.parse((await verifiedBytes(client, last, 10_000)).toString());
    assert.deepEqual(locked.components[0].source, {
      content_type: 'application/wasm',
      digest: sha256Digest(wasm),
    });
    assert.deepEqual(locked.components[0].files, [
      { digest: sha256Digest(page), path: 'pages/page.html' },
      { inline: Buffer.from(note).toString('base64'), digest: sha256Digest(note), path: 'note.txt' },
    ]);
  });

  for (const shape of ['spin', 'universal'] as const) {
    for (const archiveLayers of [false, true]) {
      it(`loads back the ${shape} shape ${archiveLayers ? 'with archives' : 'with plain layers'}`, async () => {
        const reference = `${registry.host}/tests/back-${shape}:${archiveLayers ? 'archive' : 'plain'}`;
        await push(reference, { shape, archiveLayers });
        const loaded = await load(reference);
        assert.ok(loaded.kind === 'spin');
        const [component] = loaded.app.components;
        assert.deepEqual(await readFile(component?.source.path ?? ''), wasm);
        const root = component?.files[0]?.source ?? '';
        assert.equal(await readFile(join(root, 'pages/page.html'), 'utf8'), page);
        assert.equal(await readFile(join(root, 'note.txt'), 'utf8'), note);
        assert.deepEqual(component?.allowedOutboundHosts, ['https://example.com']);
        assert.equal(loaded.app.ociImageDigest, loaded.manifestDigest);
      });
    }
  }

  it('makes the universal shape an ordinary image for both platforms', async () => {
    const reference = `${registry.host}/tests/universal:v1`;
    const { digest } = await push(reference, { shape: 'universal' });
    const client = source(reference);
    const root = await client.resolve(reference);
    assert.equal(root.digest, digest);
    const index = parseImageManifest(await verifiedBytes(client, root, 100_000), root.mediaType);
    assert.ok(index.kind === 'index');
    assert.deepEqual(
      index.manifests.map(({ platform }) => platform),
      [
        { os: 'linux', architecture: 'amd64' },
        { os: 'linux', architecture: 'arm64' },
      ],
    );
    const configs = new Set<string>();
    for (const entry of index.manifests) {
      const manifest = await manifestOf(client, entry);
      const [marker, ...rest] = manifest.layers;
      assert.equal(marker?.mediaType, mediaTypes.layerTarGzip);
      assert.equal(rest.at(-1)?.mediaType, mediaTypes.spinApp);
      const bytes = await verifiedBytes(client, manifest.config, 10_000);
      const config = parseImageConfig(bytes);
      assert.equal(config.os, 'linux');
      assert.equal(config.architecture, entry.platform?.architecture);
      assert.ok(marker);
      const tar = gunzipSync(await verifiedBytes(client, marker, 10_000));
      assert.deepEqual(config.diffIds, [sha256Digest(tar)]);
      assert.deepEqual(JSON.parse(bytes.toString()).config.Entrypoint, ['/']);
      assert.equal(config.labels.get(lockedAppDigestLabel), rest.at(-1)?.digest);
      configs.add(manifest.config.digest);
    }
    assert.equal(configs.size, 2);
  });

  it('pushes the same bytes for the same app', async () => {
    const first = await push(`${registry.host}/tests/same:1`, { shape: 'universal', archiveLayers: true });
    const second = await push(`${registry.host}/tests/same:2`, { shape: 'universal', archiveLayers: true });
    assert.equal(first.digest, second.digest);
  });

  it('goes over to archives above 499 layers', async () => {
    const layersWith = async (count: number): Promise<readonly string[]> => {
      const texts = Array.from({ length: count }, (_, i) => [`f${i}`, `${i} ${page}`] as const);
      const many = await makeApp(join(folder, `many-${count}`), new Map(texts));
      const target = freshFolder();
      await writeLayout(many, target, 'many', { shape: 'spin' });
      const layout = new Layout(target);
      const manifest = await manifestOf(layout, await layout.resolve('many'));
      return manifest.layers.map(({ mediaType }) => mediaType);
    };
    const plain = await layersWith(498);
    assert.equal(plain.length, 500);
    assert.ok(!plain.includes(mediaTypes.archiveLayer));
    assert.deepEqual(await layersWith(499), [
      mediaTypes.wasmLayer,
      mediaTypes.archiveLayer,
      mediaTypes.spinApp,
    ]);
  });

  it('notices when the storage of the registry was tampered with', async () => {
    for (const [name, change, message] of [
      [
        'other',
        Buffer.from(wasm).fill('x', 20),
        /blob has the digest sha256:[a-f0-9]{64}, and its manifest says/,
      ],
      ['short', wasm.subarray(0, 100), /ended after 100 of the/],
      ['long', Buffer.concat([wasm, wasm]), /more than the/],
    ] as const) {
      const reference = `${registry.host}/tests/tampered:${name}`;
      await push(reference);
      const file = registry.blobFile(sha256Digest(wasm));
      const original = await readFile(file);
      await writeFile(file, change);
      try {
        await assert.rejects(load(reference), { code: 'digest-mismatch', message });
      } finally {
        await writeFile(file, original);
      }
      assert.equal((await load(reference)).kind, 'spin');
    }
  });

  it('pulls into a layout, whole or for this machine, and loads from it', async () => {
    const reference = `${registry.host}/tests/pulled:v1`;
    const pushed = await push(reference, { shape: 'universal' });
    const target = freshFolder();
    const all = await pullToLayout(reference, target, { credentials: anonymous });
    assert.equal(all.digest, pushed.digest);
    const layout = new Layout(target);
    assert.equal((await layout.resolve('')).digest, pushed.digest);
    assert.equal((await layout.resolve(reference)).digest, pushed.digest);
    const fromLayout = await loadImage(layout, reference, { storeDir: freshFolder() });
    assert.equal(fromLayout.kind, 'spin');
    const host = await pullToLayout(reference, freshFolder(), { credentials: anonymous, platforms: 'host' });
    assert.equal(fromLayout.kind === 'spin' && fromLayout.manifestDigest, host.digest);
  });

  it('refuses to pull what was tampered with', async () => {
    const reference = `${registry.host}/tests/pull-tampered:v1`;
    await push(reference);
    const file = registry.blobFile(sha256Digest(page));
    const original = await readFile(file);
    await writeFile(file, 'q'.repeat(129));
    try {
      await assert.rejects(pullToLayout(reference, freshFolder(), { credentials: anonymous }), {
        code: 'digest-mismatch',
      });
    } finally {
      await writeFile(file, original);
    }
  });

  it('keeps the other images of a layout, and replaces the one of the same name', async () => {
    const target = freshFolder();
    await writeLayout(app, target, 'one', { shape: 'spin', created });
    await writeLayout(app, target, 'two', { shape: 'universal', created });
    const again = await writeLayout(app, target, 'one', { shape: 'universal', created });
    const layout = new Layout(target);
    assert.equal((await layout.entries()).length, 2);
    assert.equal((await layout.resolve('one')).digest, again.digest);
    await assert.rejects(layout.resolve('three'), { code: 'not-found', message: /it has two, one/ });
    await assert.rejects(new Layout(join(target, 'blobs')).resolve('one'), { code: 'not-found' });
  });

  it('refuses what cannot be pushed', async () => {
    const reference = `${registry.host}/tests/bad:v1`;
    await assert.rejects(push(`${reference}@${sha256Digest('x')}`), {
      code: 'invalid-argument',
      message: /push to a tag/,
    });
    const broken = await makeApp(join(folder, 'broken'), new Map());
    await writeFile(join(folder, 'broken/app.wasm'), 'not wasm');
    await assert.rejects(push(reference, {}, broken), {
      code: 'invalid-component',
      message: /component "web"/,
    });
    await rm(join(folder, 'broken/app.wasm'));
    await assert.rejects(push(reference, {}, broken), { code: 'not-found', message: /build the app first/ });
    await assert.rejects(load(`${registry.host}/tests/nothing:v1`), { code: 'not-found' });
  });

  it('takes text for a component, as Spin does', async () => {
    const text = await makeApp(join(folder, 'text'), new Map());
    await writeFile(join(folder, 'text/app.wasm'), ' \n;; a module\n(module)');
    await push(`${registry.host}/tests/text:v1`, {}, text);
    const loaded = await load(`${registry.host}/tests/text:v1`);
    assert.ok(loaded.kind === 'spin');
    assert.match(await readFile(loaded.app.components[0]?.source.path ?? '', 'utf8'), /\(module\)/);
  });

  it('logs in with a name and a password', async () => {
    // bcrypt of "spin-test-password"
    const closed = await startRegistry(
      'tester:$2y$05$abcdefghijklmnopqrstuurRQIITFB0bd/tA20Ki71Y05g/9fTtmW\n',
    );
    try {
      const reference = `${closed.host}/tests/closed:v1`;
      const login =
        (password: string) =>
        async (host: string): Promise<Credential | undefined> =>
          host === closed.host ? { kind: 'basic', username: 'tester', password } : undefined;
      await push(reference, { credentials: login('spin-test-password') });
      for (const credentials of [anonymous, login('wrong')]) {
        await assert.rejects(pullToLayout(reference, freshFolder(), { credentials }), {
          code: 'unauthenticated',
          message: new RegExp(`docker login ${closed.host}`),
        });
      }
      await pullToLayout(reference, freshFolder(), { credentials: login('spin-test-password') });
    } finally {
      await closed.stop();
    }
  });
});
