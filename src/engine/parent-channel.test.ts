import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';
import { encodeFrame, FrameReader } from './channel-frames.ts';
import { EngineProcess, engineFlags } from './engine-process.ts';
import { findInstallation } from './installation.ts';
import type { EngineReply } from './messages.ts';
import { SuiteCleanup, temporaryFolder } from './test-engine.ts';

/** An engine whose channel is in the test's hands. */
function bootRaw(): {
  readonly channel: Duplex;
  readonly replies: EngineReply[];
  /** Resolves when there are so many; rejects when the engine ends before. */
  readonly until: (count: number) => Promise<void>;
  readonly closed: Promise<unknown[]>;
} {
  const { node, engine } = findInstallation();
  const child = spawn(node, [...engineFlags, engine], {
    env: {},
    stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'ignore'],
  });
  const channel = child.stdio[3] as Duplex;
  const reader = new FrameReader();
  const replies: EngineReply[] = [];
  channel.on('data', (chunk: Buffer) => {
    for (const reply of reader.push(chunk)) replies.push(reply as EngineReply);
    channel.emit('replies');
  });
  const closed = once(child, 'close');
  const ended = closed.then(() => Promise.reject(new Error('the engine has ended')));
  ended.catch(() => {});
  const until = async (count: number): Promise<void> => {
    while (replies.length < count) await Promise.race([once(channel, 'replies'), ended]);
  };
  return { channel, replies, until, closed };
}

test('an engine takes messages that come in pieces and many at once, and ends when its parent goes away', async () => {
  const { channel, replies, until, closed } = bootRaw();
  await until(1);
  assert.deepEqual(replies, [{ type: 'ready' }]);
  const start = encodeFrame({ type: 'start' });
  for (const byte of start) channel.write(Uint8Array.of(byte));
  channel.write(Buffer.concat([start, start]));
  await until(4);
  for (const reply of replies.slice(1)) {
    assert.equal(reply.type, 'failed');
    assert.match((reply as { message: string }).message, /has to be claimed before it is started/);
  }
  channel.destroy();
  assert.deepEqual(await closed, [0, null]);
});

test('an engine that writes what is no message is ended, and its parent hears why', async () => {
  const suite = new SuiteCleanup();
  try {
    const program = join(await temporaryFolder(suite), 'program');
    for (const [bytes, reason] of [
      ['\\377\\377\\377\\377', /has 4294967295 bytes, the limit is 134217728/],
      ['\\001\\000\\000\\000{', /is not JSON/],
      ['\\004\\000\\000\\000null', /Cannot read properties of null/],
    ] as const) {
      await writeFile(program, `#!/bin/sh\nprintf '${bytes}' >&3\nexec sleep 60\n`);
      await chmod(program, 0o755);
      await assert.rejects(EngineProcess.spawn({ launcher: program }), (error: Error) => {
        assert.match(error.message, /the engine process is gone: it was ended, since/);
        assert.match(error.message, reason);
        return true;
      });
    }
  } finally {
    await suite.run();
  }
});
