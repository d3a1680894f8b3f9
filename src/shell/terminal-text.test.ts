import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rawLines, visibleText } from './terminal-text.ts';

test('control characters are written out, text and lines stay', () => {
  assert.equal(visibleText('plain täxt 🦀\n\ttab\n'), 'plain täxt 🦀\n\ttab\n');
  assert.equal(visibleText('\x1b]0;title\x07red'), '\\x1b]0;title\\x07red');
  assert.equal(visibleText('\u009b31m\x7f\x00'), '\\x9b31m\\x7f\\x00');
  assert.equal(visibleText('dos\r\nover\rwritten'), 'dos\nover\\x0dwritten');
});

test('a raw terminal gets returns before its newlines', () => {
  assert.equal(rawLines('a\nb\n'), 'a\r\nb\r\n');
});
