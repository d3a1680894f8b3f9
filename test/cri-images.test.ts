import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { appFolder } from './support/apps.ts';
import { appImage, assembleImage, buildImage, indexOf, mediaTypes, pushImage } from './support/images.ts';
import { Pod } from './support/pod.ts';
import { spinshim } from './support/shim.ts';
import { SpinNode } from './support/spin-node.ts';

const hello = appFolder('hello');
const greeting = 'Hello from Spin!\n';

describe('image shapes', { timeout: 120_000 }, () => {
  let node: SpinNode;

  before(async () => {
    node = await SpinNode.start(['hello']);
  });
  after(() => node.stop());

  /** Runs an image that containerd has, asks it once, and removes the pod. */
  async function answerOf(
    name: string,
    image: string,
    path = '/',
    command?: readonly string[],
  ): Promise<string> {
    const pod = await node.run({ name, image, container: command === undefined ? {} : { command } });
    const { status, text } = await pod.request(path);
    assert.equal(status, 200);
    await pod.remove();
    return text;
  }

  test('an image that docker built, with /spin.toml in its root file system', async () => {
    const paths = ['spin.toml', 'hello.wasm'];
    const image = await pushImage(node.registry, await appImage(hello, { paths }), 'built/hello', '1');
    await node.cri.pull(image);
    assert.equal(await answerOf('docker', image), greeting);
  });

  test('the files of a docker-built app come from its root file system', async () => {
    const paths = ['spin.toml', 'rust-http.wasm', 'rust-http.core.wasm', 'static'];
    const image = await appImage(appFolder('rust-http'), { paths });
    const name = await node.import(image, 'spinshim.test/rust:1');
    const note = await readFile(join(appFolder('rust-http'), 'static', 'note.txt'), 'utf8');
    // Twice: the second container gets the prepared app of the first, and a root file system of its own.
    assert.equal(await answerOf('files', name, '/file/static/note.txt'), note);
    assert.equal(await answerOf('files-again', name, '/file/static/note.txt'), note);
  });

  test('a component as wkg pushes it, behind a config that every containerd takes', async () => {
    const content = await readFile(join(hello, 'hello.wasm'));
    const marker = new Map([['.marker', { content: 'component' }]]);
    const image = await buildImage({
      files: marker,
      entrypoint: ['/'],
      extraLayers: [{ mediaType: 'application/wasm', content }],
    });
    const reference = await pushImage(node.registry, image, 'wkg/hello', '1');
    await node.cri.pull(reference);
    assert.equal(await answerOf('wkg', reference), greeting);
  });

  test('an index with entries for several platforms', async () => {
    const paths = ['spin.toml', 'hello.wasm'];
    const other = await buildImage({
      files: new Map([['readme', { content: 'not for this machine' }]]),
      arch: process.arch === 'x64' ? 'arm64' : 'amd64',
    });
    const image = indexOf([other, await appImage(hello, { paths })]);
    const reference = await pushImage(node.registry, image, 'index/hello', '1');
    await node.cri.pull(reference);
    assert.equal(await answerOf('index', reference), greeting);
  });

  test('a pod names its image by digest', async () => {
    const record = await node.cri.imageStatus(node.image('hello'));
    const [digest] = record?.repo_digests ?? [];
    assert.ok(digest !== undefined);
    assert.equal(await answerOf('digest', digest), greeting);
  });

  test('the artifact of "spin registry push", where containerd pulls it', async () => {
    const reference = `${node.registry.host}/native/hello:1`;
    await spinshim(node.shim, ['push', reference, '--from', hello, '--insecure']);
    const { runtime_version } = await node.cri.version();
    const pulled = node.cri.pull(reference);
    if (runtime_version.startsWith('1.6.')) {
      // Taken from 1.6.25 on; a distribution that is behind refuses it by itself.
      const refusal = await pulled.then(
        () => undefined,
        (error: unknown) => String(error),
      );
      if (refusal !== undefined) {
        assert.match(refusal, /mismatched image rootfs and manifest layers/);
        return;
      }
    }
    await pulled;
    assert.equal(await answerOf('native', reference, '/', ['/']), greeting);
  });

  test('an image that is not a Spin app', async () => {
    const files = new Map([['bin/true', { content: 'no program' }]]);
    const name = await node.import(
      await buildImage({ files, entrypoint: ['/bin/true'] }),
      'spinshim.test/plain:1',
    );
    const pod = await Pod.create(node.containerd, { name: 'plain', image: name });
    await assert.rejects(pod.start(), /no layer of a Spin app[^\n]*spin\.toml/);
    await pod.waitForLog('stderr', /spin\.toml/);
    assert.equal((await pod.status()).state, 'CONTAINER_EXITED');
    await pod.remove();
  });

  test('layers that contradict each other', async () => {
    const component = { mediaType: 'application/wasm', content: await readFile(join(hello, 'hello.wasm')) };
    const image = await buildImage({
      files: new Map([['.marker', { content: 'two' }]]),
      entrypoint: ['/'],
      extraLayers: [component, { ...component, content: Buffer.from('\0asm') }],
    });
    const name = await pushImage(node.registry, image, 'two/hello', '1');
    await node.cri.pull(name);
    const pod = await Pod.create(node.containerd, { name: 'two', image: name });
    await assert.rejects(pod.start(), /application\/wasm.*has to be the only one/);
    await pod.remove();
  });

  test('a manifest without any layer', async () => {
    const config = Buffer.from(
      JSON.stringify({ architecture: 'wasm', os: 'wasip1', rootfs: { type: 'layers', diff_ids: [] } }),
    );
    const image = assembleImage({ configType: mediaTypes.config, config, layers: [] });
    const reference = await pushImage(node.registry, image, 'empty/hello', '1');
    await node.cri.pull(reference);
    const pod = await Pod.create(node.containerd, {
      name: 'empty',
      image: reference,
      container: { command: ['/'] },
    });
    await assert.rejects(pod.start(), /no layer of a Spin app/);
    await pod.remove();
  });
});
