import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linesOf, Pipe, TerminalOutput } from './streams.ts';

async function collect(input: AsyncIterable<string>): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const line of input) lines.push(line);
  return lines;
}

/** An input in the given chunks. */
async function* chunks(...pieces: readonly (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) yield Buffer.from(piece);
}

test('lines are put together from any chunks', async () => {
  const euro = Buffer.from('€');
  assert.deepEqual(await collect(linesOf(chunks('a\nb', 'c\n\n', euro.subarray(0, 1), euro.subarray(1)))), [
    'a',
    'bc',
    '',
    '€',
  ]);
  assert.deepEqual(await collect(linesOf(chunks())), []);
});

test('a line without an end is cut, not kept', async () => {
  const lines = await collect(linesOf(chunks(...Array.from({ length: 40 }, () => 'x'.repeat(5_000)))));
  assert.equal(lines.join('').length, 200_000);
  assert.ok(lines.every((line) => line.length <= 64 * 1024));
});

test('a pipe holds its writer up until it is read, or nobody will', async () => {
  const pipe = new Pipe();
  let isWritten = false;
  const written = pipe.write(Buffer.alloc(64 * 1024)).then(() => {
    isWritten = true;
  });
  await new Promise(setImmediate);
  assert.equal(isWritten, false);
  for await (const chunk of pipe) {
    assert.equal(chunk.length, 64 * 1024);
    break;
  }
  await written;
  const held = pipe.write(Buffer.alloc(64 * 1024));
  pipe.end();
  await held;
  await pipe.write('lost');
});

test('a terminal gets characters whole, however their bytes come', async () => {
  let shown = '';
  const output = new TerminalOutput({
    write: async (content) => {
      shown += String(content);
    },
  });
  const bytes = Buffer.from('€\n\x1b[m');
  for (const byte of bytes) await output.write(Uint8Array.of(byte));
  assert.equal(shown, '€\r\n\\x1b[m');
});
