import assert from 'node:assert/strict';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadImage } from './image-load.ts';
import { Layout } from './layout.ts';
import { writeLayout } from './push.ts';
import { withLockedFolder } from './push-folder.ts';

const wasm = Buffer.from('0061736d0d000100', 'hex');
const manifest = `
spin_manifest_version = 2
[application]
name = "hello"
version = "0.1.0"
authors = ["Me"]
[variables]
password = { required = true, secret = true }
[[trigger.http]]
route = "/hello/..."
component = "hello"
[component.hello]
source = "target/hello.wasm"
files = [{ source = "static", destination = "/assets" }, "top.txt"]
allowed_outbound_hosts = ["https://example.com"]
key_value_stores = ["default"]
[component.hello.variables]
pass = "{{ password }}"
[component.unused]
source = "target/unused.wasm"
`;

describe('withLockedFolder', () => {
  let folder: string;
  const path = (name: string): string => join(folder, name);
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'push-folder-'));
    await mkdir(path('target'));
    await mkdir(path('static/deep'), { recursive: true });
    await writeFile(path('spin.toml'), manifest);
    await writeFile(path('target/hello.wasm'), wasm);
    await writeFile(path('static/deep/page.html'), 'p'.repeat(500));
    await writeFile(path('top.txt'), 'top');
  });
  after(() => rm(folder, { recursive: true }));

  it('makes an image that loads as the app of the manifest', async () => {
    const layout = path('layout');
    let copies = '';
    await withLockedFolder(path('spin.toml'), async (app) => {
      copies = fileURLToPath(app.components[0]?.files[0]?.content.source ?? '');
      await access(copies);
      return writeLayout(app, layout, 'hello', { shape: 'universal' });
    });
    await assert.rejects(access(copies), { code: 'ENOENT' });

    const loaded = await loadImage(new Layout(layout), 'hello', { storeDir: path('store') });
    assert.ok(loaded.kind === 'spin');
    const { app } = loaded;
    assert.equal(app.name, 'hello');
    assert.deepEqual(app.variables, [{ name: 'password', secret: true }]);
    assert.equal(app.components.length, 1);
    const [component] = app.components;
    assert.deepEqual(await readFile(component?.source.path ?? ''), wasm);
    assert.deepEqual(component?.variables, [['pass', '{{ password }}']]);
    assert.deepEqual(component?.keyValueStores, ['default']);
    const root = component?.files[0]?.source ?? '';
    assert.equal(await readFile(join(root, 'assets/deep/page.html'), 'utf8'), 'p'.repeat(500));
    assert.equal(await readFile(join(root, 'top.txt'), 'utf8'), 'top');
  });

  it('passes on what is wrong with the folder', async () => {
    await writeFile(path('broken.toml'), manifest.replace('target/hello.wasm', 'target/missing.wasm'));
    await assert.rejects(
      withLockedFolder(path('broken.toml'), async () => assert.fail('it was used')),
      { code: 'not-found', message: /component "hello"/ },
    );
  });
});
