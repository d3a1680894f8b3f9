import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HostIdle } from './host-idle.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-idle-'));
after(() => rmSync(folder, { recursive: true }));

async function listen(name: string): Promise<{ readonly server: Server; readonly socket: string }> {
  const socket = join(folder, name);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return { server, socket };
}

test('an idle host withdraws its socket and ends', async () => {
  const { server, socket } = await listen('idle');
  await new Promise<void>((resolve) => {
    new HostIdle({ idleMs: 1, graceMs: 1, socket, hasTasks: () => false, end: resolve });
  });
  assert.deepEqual(readdirSync(folder), []);
  server.close();
});

test('a host with tasks stays', async () => {
  const { server, socket } = await listen('tasks');
  const idle = new HostIdle({ idleMs: 60_000, graceMs: 1, socket, hasTasks: () => true, end: assert.fail });
  assert.equal(await idle.endIfUnused(), false);
  assert.ok(existsSync(socket));
  idle.stop();
  server.close();
});

test('a caller that comes during the withdrawal gets the socket put back', async () => {
  const { server, socket } = await listen('late');
  const idle = new HostIdle({ idleMs: 60_000, graceMs: 1, socket, hasTasks: () => false, end: assert.fail });
  const ending = idle.endIfUnused();
  assert.equal(existsSync(socket), false);
  idle.touch();
  assert.equal(await ending, false);
  assert.ok(existsSync(socket));
  idle.stop();
  server.close();
});

test('the socket of a successor is left alone', async () => {
  const { server, socket } = await listen('successor');
  const idle = new HostIdle({ idleMs: 60_000, graceMs: 1, socket, hasTasks: () => false, end: assert.fail });
  const ending = idle.endIfUnused();
  const successor = await listen('successor');
  idle.touch();
  assert.equal(await ending, false);
  assert.deepEqual(readdirSync(folder), ['successor']);
  idle.stop();
  server.close();
  successor.server.close();
});
