import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatImageName, isDigest, isLoopbackHost, maxNameLength, parseImageName } from './oci-name.ts';

const hex = 'a'.repeat(64);

describe('parseImageName', () => {
  const good: readonly (readonly [string, string])[] = [
    ['nginx', 'docker.io/library/nginx:latest'],
    ['docker.io/nginx', 'docker.io/library/nginx:latest'],
    ['index.docker.io/nginx:1', 'docker.io/library/nginx:1'],
    ['user/app', 'docker.io/user/app:latest'],
    ['ghcr.io/a/b/c:v1.2-x_y', 'ghcr.io/a/b/c:v1.2-x_y'],
    ['GHCR.io/a/b', 'ghcr.io/a/b:latest'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/app:1', 'localhost:5000/app:1'],
    ['registry:5000/app', 'registry:5000/app:latest'],
    ['127.0.0.1:5000/app', '127.0.0.1:5000/app:latest'],
    ['[::1]:5000/app', '[::1]:5000/app:latest'],
    ['ghcr.io/a/b__c/d--e/f.g_h', 'ghcr.io/a/b__c/d--e/f.g_h:latest'],
    [`ghcr.io/app@sha256:${hex}`, `ghcr.io/app@sha256:${hex}`],
    [`ghcr.io/app:v1@sha256:${hex}`, `ghcr.io/app:v1@sha256:${hex}`],
    [`ghcr.io/app@sha512:${hex}${hex}`, `ghcr.io/app@sha512:${hex}${hex}`],
  ];
  for (const [text, canonical] of good) {
    it(`reads "${text}"`, () => assert.equal(formatImageName(parseImageName(text)), canonical));
  }

  const wrong = [
    '',
    ':tag',
    'App',
    'ghcr.io/App',
    'ghcr.io/a//b',
    'ghcr.io/a/',
    '/a',
    'ghcr.io/a/../b',
    'ghcr.io/a___b',
    'ghcr.io/a..b',
    'ghcr.io/-a',
    'ghcr.io/a:',
    'ghcr.io/a:-t',
    `ghcr.io/a:${'t'.repeat(129)}`,
    'ghcr.io/a@sha256:abc',
    `ghcr.io/a@md5:${'a'.repeat(32)}`,
    `ghcr.io/a@sha256:${'A'.repeat(64)}`,
    `ghcr.io/a@sha256:${hex}@sha256:${hex}`,
    'user:pass@ghcr.io/a',
    'https://ghcr.io/a',
    'ghcr.io:port/a',
    '-ghcr.io/a',
    'ghcr.io/a?b',
    'ghcr.io/a%2f..',
    hex,
  ];
  for (const text of wrong) {
    it(`refuses "${text.slice(0, 60)}"`, () => {
      assert.throws(() => parseImageName(text), { code: 'invalid-argument', message: /^image reference/ });
    });
  }

  it('bounds the length of the name', () => {
    const name = `ghcr.io/${'a'.repeat(maxNameLength - 'ghcr.io/'.length)}`;
    assert.equal(parseImageName(name).repository.length, maxNameLength - 'ghcr.io/'.length);
    assert.throws(() => parseImageName(`${name}a`), /more than 255 characters/);
  });
});

describe('isLoopbackHost', () => {
  for (const host of ['localhost', 'localhost:5000', '127.0.0.1', '127.1.2.3:80', '[::1]', '[::1]:5000']) {
    it(`holds for ${host}`, () => assert.equal(isLoopbackHost(host), true));
  }
  for (const host of [
    'localhost.evil.com',
    '127.0.0.1.evil.com',
    '128.0.0.1',
    '127.0.0.256',
    '127.1',
    '[::2]',
    'a',
  ]) {
    it(`does not hold for ${host}`, () => assert.equal(isLoopbackHost(host), false));
  }
});

describe('isDigest', () => {
  it('takes full lower-case sha256 and sha512 only', () => {
    assert.equal(isDigest(`sha256:${hex}`), true);
    assert.equal(isDigest(`sha512:${hex}${hex}`), true);
    for (const text of [
      `sha256:${hex}a`,
      `sha256:${hex.slice(1)}`,
      `sha512:${hex}`,
      `sha1:${hex}`,
      `sha256:${hex}\n`,
    ]) {
      assert.equal(isDigest(text), false);
    }
  });
});
