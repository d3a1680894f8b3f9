import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseChallenges } from './registry-challenge.ts';

describe('parseChallenges', () => {
  const cases: readonly (readonly [string, readonly unknown[]])[] = [
    ['Basic realm="x"', [{ scheme: 'basic' }]],
    ['basic', [{ scheme: 'basic' }]],
    [
      'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
      [{ scheme: 'bearer', realm: 'https://a/t', service: 's', scope: 'repository:a:pull,push' }],
    ],
    ['Bearer realm = "https://a/t" , service=s', [{ scheme: 'bearer', realm: 'https://a/t', service: 's' }]],
    [
      'Basic realm="a, Bearer realm=b", Bearer realm="https://a/t"',
      [{ scheme: 'basic' }, { scheme: 'bearer', realm: 'https://a/t' }],
    ],
    ['Bearer realm="a\\"b"', [{ scheme: 'bearer', realm: 'a"b' }]],
    ['Negotiate abc==, Basic realm=x', [{ scheme: 'basic' }]],
    ['Bearer service="no realm"', []],
    ['Bearer realm="open', [{ scheme: 'bearer', realm: 'open' }]],
    [',,;;=="', []],
    ['', []],
  ];
  for (const [header, expected] of cases) {
    it(`reads ${JSON.stringify(header)}`, () => assert.deepEqual(parseChallenges([header]), expected));
  }

  it('reads several headers and looks at no more than the bound', () => {
    assert.equal(parseChallenges(['Basic', 'Bearer realm=a']).length, 2);
    assert.equal(parseChallenges([`${','.repeat(8192)}Basic`]).length, 0);
  });
});
