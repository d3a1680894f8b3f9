import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { openPreopens } from '../wasi/filesystem-preopens.ts';
import type { HttpServices } from '../wasi/http/http.ts';
import { createWasi03, isWasi03, wasi03Versions } from './imports.ts';

const nowhere = {
  readiness: { isReady: () => true, subscribe: () => () => {} },
  capacity: () => 100,
  write: () => {},
  flush: () => {},
  isFlushed: () => true,
  close: () => {},
};

type Functions = Readonly<Record<string, (...args: unknown[]) => unknown>>;

function interfaces(scope: InstanceScope, preopens = openPreopens([])): (name: string) => Functions {
  const cli = { environment: [], args: [], stdout: nowhere, stderr: nowhere };
  const all = createWasi03({ cli, filesystem: { preopens }, http: {} as HttpServices }, scope);
  return (name) => all.get(`${name}@0.3.0`) as Functions;
}

test('every interface is there in both versions, which are the same', () => {
  const cli = { environment: [], args: [], stdout: nowhere, stderr: nowhere };
  const grant = { cli, filesystem: { preopens: openPreopens([]) }, http: {} as HttpServices };
  const all = createWasi03(grant, new InstanceScope());
  assert.equal(all.size, 2 * new Set([...all.keys()].map((name) => name.slice(0, name.indexOf('@')))).size);
  for (const name of all.keys()) {
    assert.ok(isWasi03(name), name);
    const plain = name.slice(0, name.indexOf('@'));
    const [first, second] = wasi03Versions.map((version) => all.get(`${plain}@${version}`));
    assert.equal(first, second);
  }
  for (const name of ['wasi:cli/exit', 'wasi:cli/exit@0.2.6', 'spin:x/y@0.3.0'])
    assert.equal(isWasi03(name), false);
});

test('no socket is made and no name resolves', async () => {
  const of = interfaces(new InstanceScope());
  const { TcpSocket, UdpSocket } = of('wasi:sockets/types') as unknown as Record<string, Functions>;
  for (const socket of [TcpSocket, UdpSocket])
    assert.throws(() => socket?.create?.('ipv4'), { tag: 'access-denied' });
  await assert.rejects(async () => of('wasi:sockets/ip-name-lookup').resolveAddresses?.('localhost'), {
    tag: 'permanent-resolver-failure',
  });
});

test('the seed of an instance stays, random bytes are bounded', () => {
  const [of, another] = [interfaces(new InstanceScope()), interfaces(new InstanceScope())];
  const seed = of('wasi:random/insecure-seed').getInsecureSeed?.();
  assert.deepEqual(of('wasi:random/insecure-seed').getInsecureSeed?.(), seed);
  assert.notDeepEqual(another('wasi:random/insecure-seed').getInsecureSeed?.(), seed);
  const bytes = of('wasi:random/random').getRandomBytes?.(2n ** 64n - 1n) as Uint8Array;
  assert.equal(bytes.length, 65_536);
});

test('a wait for the clock ends with the scope, however far its end', async () => {
  const scope = new InstanceScope();
  const clock = interfaces(scope)('wasi:clocks/monotonic-clock');
  await clock.waitUntil?.(0n);
  const waiting = clock.waitFor?.(2n ** 64n - 1n) as Promise<void>;
  assert.equal(scope.pendingWaits, 1);
  scope.end(new Error('over'));
  await assert.rejects(waiting, /over/);
});

test('files are read as granted; what is not is refused with the codes of 0.3', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'wasi03-'));
  t.after(() => rmSync(root, { recursive: true }));
  writeFileSync(join(root, 'note.txt'), 'a note');
  const preopens = openPreopens([{ source: root, destination: '/' }]);
  t.after(() => preopens.close());
  const list = interfaces(new InstanceScope(), preopens)('wasi:filesystem/preopens').getDirectories?.();
  const [directory] = (list as [Functions, string][])[0] ?? assert.fail('no directory');
  const read = { read: true };
  const file = (await directory.openAt?.({}, 'note.txt', {}, read)) as Functions;
  const reading: unknown = file.readViaStream?.(2n);
  const [body, result] = reading as [AsyncIterable<Uint8Array>, Promise<unknown>];
  let text = '';
  for await (const bytes of body) text += Buffer.from(bytes).toString();
  assert.equal(text, 'note');
  assert.deepEqual(await result, { tag: 'ok', val: undefined });
  assert.deepEqual(await file.getType?.(), { tag: 'regular-file' });
  const listing: unknown = directory.readDirectory?.();
  const [entries, end] = listing as [AsyncIterable<{ name: string }>, Promise<unknown>];
  for await (const { name } of entries) assert.equal(name, 'note.txt');
  assert.deepEqual(await end, { tag: 'ok', val: undefined });
  const refused = async (call: () => unknown, tag: string): Promise<void> =>
    assert.rejects(async () => call(), { tag });
  await refused(() => directory.openAt?.({}, '../x', {}, read), 'not-permitted');
  await refused(() => directory.openAt?.({}, 'new', { create: true }, { write: true }), 'not-permitted');
  await refused(() => directory.createDirectoryAt?.('.'), 'exist');
  await refused(() => directory.unlinkFileAt?.('a/..'), 'not-permitted');
  await refused(() => directory.statAt?.({}, 'missing'), 'no-entry');
});
