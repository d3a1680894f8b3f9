import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { maxVariableFileBytes, readVariables } from './variable-values.ts';

describe('the values of --variable', () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spin-variables-'));
    await writeFile(join(folder, 'token'), 's3cret\n');
    await writeFile(join(folder, 'a.json'), '{"a": "json", "n": 12, "__proto__": "own"}');
    await writeFile(join(folder, 'a.toml'), 'a = "toml"\nlarge = 9007199254740993\non = true\n');
    await writeFile(join(folder, 'list.json'), '{"a": ["s3cret"]}');
    await writeFile(join(folder, 'bad.json'), '{"a": s3cret');
  });
  after(() => rm(folder, { recursive: true }));

  test('come from the flag itself, a file for one of them, and tables in JSON and TOML', async () => {
    assert.deepEqual(await readVariables(['x=1=2', 'empty=', 'token=@token'], folder), [
      ['x', '1=2'],
      ['empty', ''],
      ['token', 's3cret\n'],
    ]);
    assert.deepEqual(await readVariables(['@a.json'], folder), [
      ['a', 'json'],
      ['n', '12'],
      ['__proto__', 'own'],
    ]);
    assert.deepEqual(await readVariables(['@a.toml'], folder), [
      ['a', 'toml'],
      ['large', '9007199254740993'],
      ['on', 'true'],
    ]);
  });

  test('that come later win', async () => {
    assert.deepEqual(new Map(await readVariables(['a=flag', '@a.json'], folder)).get('a'), 'json');
    assert.deepEqual(new Map(await readVariables(['@a.json', 'a=flag'], folder)).get('a'), 'flag');
  });

  test('are refused with what to write, and never shown', async () => {
    const refusals: readonly (readonly [flag: string, code: string, message: RegExp])[] = [
      ['name', 'invalid-argument', /^--variable is given "name": write --variable NAME=VALUE$/],
      ['=s3cret', 'invalid-argument', /^--variable is given a value without a name/],
      ['@token', 'invalid-argument', /is neither .json nor .toml: write --variable NAME=@token/],
      ['@gone.json', 'not-found', /gone.json" cannot be read \(ENOENT\)/],
      ['a=@gone', 'not-found', /gone" cannot be read/],
      ['@list.json', 'invalid-argument', /"list.json": a must be a string, a number or a boolean/],
      ['@bad.json', 'invalid-argument', /"bad.json" is not valid JSON$/],
    ];
    for (const [flag, code, message] of refusals) {
      await assert.rejects(readVariables([flag], folder), (error: Error) => {
        assert.doesNotMatch(error.message, /s3cret/);
        assert.match(error.message, message);
        return 'code' in error && error.code === code;
      });
    }
  });

  test('may fill a file up to its limit and no further', async () => {
    await writeFile(join(folder, 'large'), Buffer.alloc(maxVariableFileBytes, 'a'));
    const [value] = await readVariables(['a=@large'], folder);
    assert.equal(value?.[1].length, maxVariableFileBytes);
    await writeFile(join(folder, 'larger'), Buffer.alloc(maxVariableFileBytes + 1, 'a'));
    await assert.rejects(readVariables(['a=@larger'], folder), { code: 'invalid-argument' });
  });
});
