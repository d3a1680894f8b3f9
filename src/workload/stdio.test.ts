import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseOutput, TaskStdio } from './stdio.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-stdio-'));
const owner = { id: 'c1', namespace: 'test', directory: folder };
after(() => rmSync(folder, { recursive: true }));

function fifo(name: string): string {
  const path = join(folder, name);
  execFileSync('mkfifo', [path]);
  return path;
}

function readAll(fd: number): string {
  const chunk = Buffer.alloc(65536);
  try {
    return chunk.toString('utf8', 0, readSync(fd, chunk));
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

test('URIs say what a stream is', () => {
  assert.deepEqual(parseOutput(''), { kind: 'null' });
  assert.deepEqual(parseOutput('/a/b'), { kind: 'fifo', path: '/a/b' });
  assert.deepEqual(parseOutput('fifo:///a'), { kind: 'fifo', path: '/a' });
  assert.deepEqual(parseOutput('file:///a?x=1'), { kind: 'file', path: '/a' });
  assert.throws(() => parseOutput('binary:///a'), { code: 'unimplemented' });
  assert.throws(() => parseOutput('a/b'), { code: 'invalid-argument' });
});

test('streams open without a reader, and the reason waits for one that comes late', async () => {
  const stderr = fifo('late');
  const stdio = await TaskStdio.open({ stdin: fifo('stdin'), stdout: fifo('late-out'), stderr }, owner);
  stdio.writeReason('it broke\nbadly');
  const reader = openSync(stderr, constants.O_RDONLY | constants.O_NONBLOCK);
  const closed = stdio.close(60_000);
  assert.equal(readAll(reader), 'it broke badly\n');
  await closed;
  assert.equal(readAll(reader), '');
  closeSync(reader);
});

test('output that the workload left is not lost by the closing', async () => {
  const stdout = fifo('left');
  const stdio = await TaskStdio.open({ stdin: '', stdout, stderr: '' }, owner);
  const workload = openSync(stdout, constants.O_RDWR | constants.O_NONBLOCK);
  writeSync(workload, 'last words');
  closeSync(workload);
  const closed = stdio.close(60_000);
  const reader = openSync(stdout, constants.O_RDONLY | constants.O_NONBLOCK);
  assert.equal(readAll(reader), 'last words');
  await closed;
  closeSync(reader);
});

test('output that nobody reads is given up in the end', async () => {
  const stdout = fifo('unread');
  const stdio = await TaskStdio.open({ stdin: '', stdout, stderr: '' }, owner);
  const workload = openSync(stdout, constants.O_RDWR | constants.O_NONBLOCK);
  writeSync(workload, 'unread');
  await stdio.close(0);
  closeSync(workload);
});

test('a pipe that is full does not hold up the reason', async () => {
  const stderr = fifo('full');
  const stdio = await TaskStdio.open({ stdin: '', stdout: '', stderr }, owner);
  const writer = openSync(stderr, constants.O_RDWR | constants.O_NONBLOCK);
  assert.throws(() => {
    for (;;) writeSync(writer, Buffer.alloc(4096));
  }, /EAGAIN/);
  stdio.writeReason('unseen');
  await stdio.close(0);
  closeSync(writer);
});

test('a file is made with its folder and appended to', async () => {
  const path = join(folder, 'deep', 'log');
  const files = { stdin: '', stdout: `file://${path}`, stderr: `file://${path}` };
  const stdio = await TaskStdio.open(files, owner);
  stdio.writeReason('one');
  stdio.writeReason('two');
  assert.equal(readFileSync(path, 'utf8'), 'one\ntwo\n');
  await stdio.close();
});

test('a bare path that is no FIFO is refused', async () => {
  const path = join(folder, 'plain');
  writeFileSync(path, '');
  await assert.rejects(TaskStdio.open({ stdin: '', stdout: path, stderr: '' }, owner), {
    code: 'invalid-argument',
  });
  await assert.rejects(TaskStdio.open({ stdin: '', stdout: join(folder, 'none'), stderr: '' }, owner), {
    code: 'invalid-argument',
  });
  assert.equal(existsSync(join(folder, 'none')), false);
});

test('input that the workload never read does not hold up the end', async () => {
  const stdin = fifo('unread-input');
  const stdio = await TaskStdio.open({ stdin, stdout: '', stderr: '' }, owner);
  const writer = openSync(stdin, constants.O_WRONLY | constants.O_NONBLOCK);
  writeSync(writer, 'nobody wants this');
  const winner = await Promise.race([
    stdio.close(60_000).then(() => 'closed'),
    new Promise((resolve) => setTimeout(resolve, 5_000, 'still waiting').unref()),
  ]);
  assert.equal(winner, 'closed');
  closeSync(writer);
});
