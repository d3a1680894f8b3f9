import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { receiveDescriptors, sendDescriptors, socketPair } from './linux.ts';

test('descriptors go from one end of a pair of sockets to the other, message by message', () => {
  const folder = mkdtempSync(join(tmpdir(), 'linux-'));
  const [left, right] = socketPair();
  try {
    const files = ['a', 'b', 'c'].map((name) => openSync(join(folder, name), 'w'));
    sendDescriptors(left, files.slice(0, 2));
    sendDescriptors(left, files.slice(2));
    for (const fd of files) closeSync(fd);
    const received = [receiveDescriptors(right), receiveDescriptors(right)];
    assert.deepEqual(
      received.map(({ length }) => length),
      [2, 1],
    );
    received.flat().forEach((fd, index) => {
      writeSync(fd, String(index));
      closeSync(fd);
    });
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => readFileSync(join(folder, name), 'utf8')),
      ['0', '1', '2'],
    );
    assert.throws(() => receiveDescriptors(right), /taking descriptors failed: EAGAIN/);
    closeSync(right);
    assert.throws(() => sendDescriptors(left, [0]), /handing over descriptors failed: EPIPE/);
  } finally {
    closeSync(left);
    rmSync(folder, { recursive: true });
  }
});
