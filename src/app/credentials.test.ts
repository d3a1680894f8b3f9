import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { fileCredentials } from './credentials.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('fileCredentials', () => {
  const folders: string[] = [];
  let home: string;
  const environment = (): Record<string, string> => ({ HOME: home, PATH: `${home}:/usr/bin:/bin` });
  const ask = (registry: string) => fileCredentials({ environment: environment() })(registry);
  const docker = async (config: unknown): Promise<void> => {
    await mkdir(join(home, '.docker'), { recursive: true });
    await writeFile(
      join(home, '.docker/config.json'),
      typeof config === 'string' ? config : JSON.stringify(config),
    );
  };
  const helper = async (name: string, script: string): Promise<void> => {
    const path = join(home, `docker-credential-${name}`);
    await writeFile(path, `#!/bin/sh\n${script}\n`);
    await chmod(path, 0o755);
  };

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'credentials-'));
    folders.push(home);
  });
  after(async () => {
    for (const folder of folders) await rm(folder, { recursive: true });
  });

  it('knows nobody when there is no file', async () => {
    assert.equal(await ask('ghcr.io'), undefined);
  });

  it('reads the entries of docker by exact host', async () => {
    await docker({
      auths: {
        'ghcr.io': { auth: base64('me:pa:ss') },
        'https://registry.example.com/v1/': { auth: base64('url:x') },
        'https://index.docker.io/v1/': { auth: base64('hub:y') },
        'localhost:5000': { username: 'u', password: 'p' },
        'token.example.com': { auth: base64('a:b'), identitytoken: 'refresh' },
        'empty.example.com': {},
      },
    });
    assert.deepEqual(await ask('ghcr.io'), { kind: 'basic', username: 'me', password: 'pa:ss' });
    assert.deepEqual(await ask('registry.example.com'), { kind: 'basic', username: 'url', password: 'x' });
    assert.deepEqual(await ask('docker.io'), { kind: 'basic', username: 'hub', password: 'y' });
    assert.deepEqual(await ask('localhost:5000'), { kind: 'basic', username: 'u', password: 'p' });
    assert.deepEqual(await ask('token.example.com'), { kind: 'identity-token', token: 'refresh' });
    for (const host of [
      'evil-ghcr.io',
      'ghcr.io.evil.com',
      'hcr.io',
      'localhost',
      'localhost:50001',
      'empty.example.com',
    ]) {
      assert.equal(await ask(host), undefined, host);
    }
  });

  it('asks the helper of the host, then the store, with the host on standard input', async () => {
    await docker({
      credHelpers: { 'ghcr.io': 'one' },
      credsStore: 'two',
      auths: { 'quay.io': { auth: base64('f:g') } },
    });
    await helper('one', 'read host; echo "{\\"Username\\":\\"$host\\",\\"Secret\\":\\"$1\\"}"');
    await helper(
      'two',
      'read host; case $host in https://index.docker.io/v1/) echo \'{"Username":"<token>","Secret":"t"}\';; *) echo credentials not found in native keychain; exit 1;; esac',
    );
    assert.deepEqual(await ask('ghcr.io'), { kind: 'basic', username: 'ghcr.io', password: 'get' });
    assert.deepEqual(await ask('docker.io'), { kind: 'identity-token', token: 't' });
    assert.deepEqual(await ask('quay.io'), { kind: 'basic', username: 'f', password: 'g' });
    assert.equal(await ask('other.io'), undefined);
  });

  it('says which helper failed, without what it printed', async () => {
    await docker({ credsStore: 'bad' });
    await helper('bad', 'echo hush-hush; echo hush-hush >&2; exit 3');
    await assert.rejects(ask('ghcr.io'), (error: Error & { code: string }) => {
      assert.equal(error.code, 'failed-precondition');
      assert.match(error.message, /docker-credential-bad.*failed \(3\)/);
      assert.doesNotMatch(JSON.stringify(error) + error.stack, /hush/);
      return true;
    });
  });

  it('ends a helper that hangs', async () => {
    await docker({ credsStore: 'slow' });
    await helper('slow', 'exec sleep 600');
    const provider = fileCredentials({ environment: environment(), helperTimeoutMs: 50 });
    await assert.rejects(provider('ghcr.io'), /took longer than 50 ms/);
  });

  for (const name of ['../evil', 'a/b', 'a;b', '-x']) {
    it(`runs no helper called ${JSON.stringify(name)}`, async () => {
      await docker({ credsStore: name });
      await assert.rejects(ask('ghcr.io'), { code: 'invalid-argument', message: /no program name/ });
    });
  }

  it('reads the file of spin after that of docker', async () => {
    await mkdir(join(home, '.config/fermyon'), { recursive: true });
    await writeFile(
      join(home, '.config/fermyon/registry-auth.json'),
      JSON.stringify({ auths: { 'ghcr.io': base64('spin:s'), 'quay.io': { auth: base64('q:r') } } }),
    );
    assert.deepEqual(await ask('ghcr.io'), { kind: 'basic', username: 'spin', password: 's' });
    assert.deepEqual(await ask('quay.io'), { kind: 'basic', username: 'q', password: 'r' });
    await docker({ auths: { 'ghcr.io': { auth: base64('docker:d') } } });
    assert.deepEqual(await ask('ghcr.io'), { kind: 'basic', username: 'docker', password: 'd' });
  });

  it('keeps secrets out of the messages of broken files', async () => {
    await docker(`{"auths":{"ghcr.io":{"auth":"${base64('me:hush')}`);
    await assert.rejects(ask('ghcr.io'), (error: Error) => {
      assert.doesNotMatch(String(error.stack), new RegExp(base64('me:hush').slice(0, 6)));
      return error.message.includes('is not JSON');
    });
    await docker({ auths: { 'ghcr.io': { auth: base64('hush') } } });
    await assert.rejects(ask('ghcr.io'), (error: Error) => !error.message.includes('hush'));
  });
});
