import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type AppSource, findAppSource, sourceFlags } from './app-source.ts';
import { parseArguments } from './arguments.ts';

describe('finding the app', () => {
  let folder: string;

  before(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'spin-source-')));
    for (const name of ['app/deep/er', 'layout', 'empty'])
      await mkdir(join(folder, name), { recursive: true });
    await writeFile(join(folder, 'app', 'spin.toml'), '');
    await writeFile(join(folder, 'app', 'other.toml'), '');
    await writeFile(join(folder, 'layout', 'oci-layout'), '{}');
    await writeFile(join(folder, 'guest.wasm'), '');
    await writeFile(join(folder, 'guest'), '\0asm\x01\0\0\0');
  });
  after(() => rm(folder, { recursive: true }));

  function find(cwd: string, ...args: readonly string[]): Promise<AppSource> {
    const parsed = parseArguments(args, Object.values(sourceFlags), 'tool', new Map());
    return findAppSource(parsed, join(folder, cwd));
  }

  test('takes the spin.toml of the folder or of one above', async () => {
    const manifest = { kind: 'manifest', path: join(folder, 'app/spin.toml') };
    assert.deepEqual(await find('app'), manifest);
    assert.deepEqual(await find('app/deep/er'), manifest);
    await assert.rejects(find('empty'), {
      code: 'not-found',
      message: /^no "spin.toml" in ".*" or above it/,
    });
  });

  test('tells folders, manifests, layouts and single files apart', async () => {
    assert.deepEqual(await find('.', '-f', 'app'), { kind: 'manifest', path: join(folder, 'app/spin.toml') });
    assert.deepEqual(await find('app', '-f', 'other.toml'), {
      kind: 'manifest',
      path: join(folder, 'app/other.toml'),
    });
    assert.deepEqual(await find('.', '-f', 'layout'), { kind: 'layout', path: join(folder, 'layout') });
    assert.deepEqual(await find('.', '-f', 'guest.wasm'), { kind: 'wasm', path: join(folder, 'guest.wasm') });
    assert.deepEqual(await find('.', '--from-file', 'guest'), { kind: 'wasm', path: join(folder, 'guest') });
    await assert.rejects(find('.', '-f', 'empty'), {
      code: 'not-found',
      message: /neither a "spin.toml" nor/,
    });
  });

  test('takes what is no path as a registry reference', async () => {
    const reference = 'localhost:5000/hello:1';
    assert.deepEqual(await find('.', '-f', reference), { kind: 'registry', reference });
    // A folder of that name does not matter when a reference is asked for.
    assert.deepEqual(await find('.', '--from-registry', 'app'), { kind: 'registry', reference: 'app' });
    await assert.rejects(find('.', '-f', './hello'), { code: 'not-found', message: /hello" does not exist/ });
    await assert.rejects(find('.', '-f', 'gone/spin.toml'), { code: 'not-found' });
    await assert.rejects(find('.', '--from-file', 'hello'), { code: 'not-found' });
    await assert.rejects(find('.', '-f', 'No Name'), {
      code: 'invalid-argument',
      message: /^"No Name" is no path in ".*" and no registry reference/,
    });
  });

  test('refuses two of its flags at once', async () => {
    await assert.rejects(find('.', '-f', 'app', '--from-file', 'app'), {
      code: 'invalid-argument',
      message: '--from and --from-file are both given: give one of them',
    });
  });
});
