import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ShimError } from '../error.ts';
import { type Flag, type ParsedArguments, parseArguments } from './arguments.ts';

const listen: Flag = { name: 'listen', value: 'HOST:PORT', env: 'LISTEN', summary: 'where' };
const env: Flag = { name: 'env', short: 'e', value: 'NAME=VALUE', repeatable: true, summary: 'variable' };
const quiet: Flag = { name: 'quiet', short: 'q', summary: 'silence' };
const insecure: Flag = { name: 'insecure', short: 'k', summary: 'plain' };

function parse(
  args: readonly string[],
  environment: readonly (readonly [string, string])[] = [],
): ParsedArguments {
  return parseArguments(args, [listen, env, quiet, insecure], 'tool run', new Map(environment));
}

function refusal(...args: readonly string[]): string {
  try {
    parse(args);
  } catch (error) {
    assert.ok(error instanceof ShimError);
    assert.equal(error.code, 'invalid-argument');
    return error.message;
  }
  throw new Error('nothing was refused');
}

describe('parsing arguments', () => {
  test('takes values after a space and after "=", and positionals in between', () => {
    const args = parse(['a', '--listen', '[::1]:80', '-e', 'A=1', 'b', '--env=B=2', '-eC=3']);
    assert.deepEqual(args.positionals, ['a', 'b']);
    assert.equal(args.value(listen), '[::1]:80');
    assert.deepEqual(args.values(env), ['A=1', 'B=2', 'C=3']);
    assert.equal(args.isSet(quiet), false);
  });

  test('takes groups of one-letter switches, and everything after "--" as it is', () => {
    const args = parse(['-qk', '--', '--listen']);
    assert.equal(args.isSet(quiet) && args.isSet(insecure), true);
    assert.deepEqual(args.positionals, ['--listen']);
  });

  test('lets a flag win over its environment variable, and an empty variable count as none', () => {
    assert.equal(parse([], [['LISTEN', 'a:1']]).value(listen), 'a:1');
    assert.equal(parse(['--listen', 'b:2'], [['LISTEN', 'a:1']]).value(listen), 'b:2');
    assert.equal(parse([], [['LISTEN', '']]).value(listen), undefined);
  });

  test('names the nearest flag for one that is unknown', () => {
    assert.equal(
      refusal('--lisen', 'x'),
      'unknown flag "--lisen"; did you mean "--listen"? (see "tool run --help")',
    );
    assert.equal(refusal('--frobnicate'), 'unknown flag "--frobnicate" (see "tool run --help")');
    assert.match(refusal('-z'), /^unknown flag "-z"/);
    assert.match(refusal('--__proto__=x'), /^unknown flag "--__proto__"/);
  });

  test('refuses a missing value, also when a flag follows', () => {
    assert.match(refusal('--listen'), /^flag "--listen" has no value: write "--listen HOST:PORT"/);
    assert.match(refusal('--listen', '--quiet'), /^flag "--listen" has no value/);
  });

  test('refuses a value for a switch, and a flag given twice', () => {
    assert.match(refusal('--quiet=yes'), /^flag "--quiet" takes no value, and "yes" is one/);
    assert.match(refusal('--listen', 'a', '--listen', 'b'), /^flag "--listen" is given twice/);
  });
});
