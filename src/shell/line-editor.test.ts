import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Edit, LineEditor, maxTypedLength } from './line-editor.ts';

const names = ['head', 'heap', 'help', 'ls'];

function editor(): LineEditor {
  const made = new LineEditor('$ ', (word) => names.filter((name) => name.startsWith(word)));
  made.start();
  return made;
}

/** Types keys and gives what came of the last one, and all that was shown. */
function type(line: LineEditor, keys: string): { readonly edit: Edit; readonly shown: string } {
  let shown = '';
  let edit: Edit = { kind: 'editing' };
  for (const key of keys) {
    const typed = line.type(key);
    shown += typed.show;
    edit = typed.edit;
  }
  return { edit, shown };
}

/** The line that keys lead to. */
function line(keys: string): string {
  const { edit } = type(editor(), `${keys}\r`);
  assert.equal(edit.kind, 'line');
  return edit.kind === 'line' ? edit.text : '';
}

test('keys move, delete and insert', () => {
  assert.equal(line('abc'), 'abc');
  assert.equal(line('abc\x7f\x7fd'), 'ad');
  assert.equal(line('ac\x1b[Db'), 'abc');
  assert.equal(line('bc\x01a\x05d'), 'abcd');
  assert.equal(line('abcd\x1b[H\x1b[3~\x1b[F!'), 'bcd!');
  assert.equal(line('one two  \x17x'), 'one x');
  assert.equal(line('abc\x02\x0b'), 'ab');
  assert.equal(line('abc\x02\x15'), 'c');
  assert.equal(line('a\x1b[1;5Cb\x1bOHc'), 'cab');
  assert.equal(line('naïve 🦀\x7f!'), 'naïve !');
  assert.equal(line('a\x00\x1cb'), 'ab');
});

test('a return with a newline is one line', () => {
  const one = editor();
  assert.equal(type(one, 'a\r').edit.kind, 'line');
  one.start();
  assert.equal(type(one, '\n').edit.kind, 'editing');
  assert.equal(type(one, 'b\n').edit.kind, 'line');
});

test('the history is walked and the typed line kept', () => {
  const one = editor();
  for (const text of ['first', 'second', 'second', ' ']) {
    type(one, `${text}\r`);
    one.start();
  }
  assert.deepEqual(type(one, 'typed\x1b[A\x1b[A\x1b[A\r').edit, { kind: 'line', text: 'first' });
  one.start();
  assert.deepEqual(type(one, 'typed\x1b[A\x1b[B\r').edit, { kind: 'line', text: 'typed' });
});

test('Ctrl-C gives the line up, Ctrl-D ends an empty one', () => {
  assert.equal(type(editor(), 'abc\x03').edit.kind, 'interrupt');
  assert.equal(type(editor(), '\x04').edit.kind, 'end');
  assert.equal(line('ab\x01\x04'), 'b');
});

test('a tab completes commands', () => {
  assert.equal(line('l\t-l'), 'ls -l');
  assert.match(type(editor(), 'he\t').shown, /\r\nhead {2}heap {2}help\r\n/);
  assert.equal(line('hea\td'), 'head');
  assert.equal(type(editor(), 'x\t').shown, 'x\x07');
});

test('a line wider than the terminal shows the part around the cursor', () => {
  const one = editor();
  one.columns = 20;
  const { shown } = type(one, 'x'.repeat(100));
  for (const row of shown.split('\r\x1b[K')) assert.ok(row.length <= 20, row);
});

test('a line is bounded', () => {
  assert.equal(line('x'.repeat(maxTypedLength + 10)).length, maxTypedLength);
});
