import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { type ByteSource, Signal } from '../wasi/io.ts';
import {
  type GuestStream,
  guestReader,
  HostStream,
  heedlessly,
  lazily,
  pump,
  sourceReader,
} from './guest-stream.ts';

/** A guest's stream that gives the chunks one by one, and counts what is asked of it. */
function guestStream(chunks: readonly Uint8Array[]): GuestStream & { reads: number[]; dropped: boolean } {
  const rest = [...chunks];
  return {
    reads: [] as number[],
    dropped: false,
    read(options) {
      this.reads.push(options.count);
      const value = rest.shift();
      return Promise.resolve({ value, done: value === undefined });
    },
    [Symbol.dispose]() {
      this.dropped = true;
    },
  };
}

/** A sink that takes as many bytes as it is given room for. */
function sink(room: number) {
  const signal = new Signal();
  const written: Uint8Array[] = [];
  return {
    written,
    room,
    capacity() {
      return this.room;
    },
    write(bytes: Uint8Array) {
      written.push(bytes);
      this.room -= bytes.length;
    },
    readiness: { isReady: () => true, subscribe: (callback: () => void) => signal.subscribe(callback) },
    makeRoom(bytes: number) {
      this.room += bytes;
      signal.notify();
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a full sink holds the guest up: nothing is read before there is room', async () => {
  const scope = new InstanceScope();
  const stream = guestStream([Buffer.from('four'), Buffer.from('five')]);
  const target = sink(4);
  const done = pump(scope, guestReader(scope, stream), target);
  await turn();
  assert.deepEqual(stream.reads, [4]);
  assert.equal(scope.pendingWaits, 1);
  target.makeRoom(100_000);
  assert.equal(await done, 'ended');
  assert.equal(Buffer.concat(target.written).toString(), 'fourfive');
  assert.deepEqual(stream.reads.slice(1), [65_536, 65_536]);
  assert.ok(stream.dropped);
});

test('what waits for a guest is no wait of the host, and ends with the scope', async () => {
  const scope = new InstanceScope();
  const stream = guestStream([]);
  stream.read = () => new Promise(() => {});
  const done = pump(scope, guestReader(scope, stream), sink(10));
  await turn();
  assert.equal(scope.pendingWaits, 0);
  scope.end(new Error('over'));
  await assert.rejects(done, /over/);
  assert.ok(stream.dropped);
});

test('a guest hears of its reader being gone', async () => {
  const scope = new InstanceScope();
  const stream = guestStream([Buffer.from('x')]);
  const gone = { ...sink(0), capacity: (): 'closed' => 'closed' };
  assert.equal(await pump(scope, guestReader(scope, stream), gone), 'closed');
  assert.deepEqual([stream.reads, stream.dropped], [[], true]);
});

test('values of every form the glue uses are bytes', async () => {
  const scope = new InstanceScope();
  const values = [[1, 2], 3, Uint8Array.of(4)];
  const reader = guestReader(scope, {
    read: () => {
      const value = values.shift();
      return Promise.resolve({ value, done: value === undefined });
    },
    [Symbol.dispose]() {},
  });
  const read: number[] = [];
  for (let bytes = await reader.read(9); bytes !== undefined; bytes = await reader.read(9))
    read.push(...bytes);
  assert.deepEqual(read, [1, 2, 3, 4]);
});

/** A source whose bytes are put in by the test. */
function source(): ByteSource & { give(item: Uint8Array | 'end' | Error): void; closed: boolean } {
  const signal = new Signal();
  const items: (Uint8Array | 'end' | Error)[] = [];
  return {
    closed: false,
    readiness: { isReady: () => items.length > 0, subscribe: (callback) => signal.subscribe(callback) },
    read() {
      const item = items.shift();
      if (item instanceof Error) throw item;
      return item;
    },
    close() {
      this.closed = true;
    },
    give(item) {
      items.push(item);
      signal.notify();
    },
  };
}

test('a stream for the guest gives what comes, tells its end, and gives nothing after the scope', async () => {
  const scope = new InstanceScope();
  const ends: unknown[] = [];
  const stream = (from: ByteSource): HostStream =>
    new HostStream(scope, sourceReader(scope, from), (how) => ends.push(how));
  const whole = source();
  const reading = stream(whole);
  const first = reading.next();
  whole.give(Buffer.from('a'));
  assert.equal(String((await first).value), 'a');
  whole.give('end');
  assert.deepEqual(await reading.next(), { done: true, value: undefined });
  const failing = source();
  failing.give(new Error('broken'));
  assert.ok((await stream(failing).next()).done);
  const abandoned = source();
  const pending = stream(abandoned).next();
  scope.end(new Error('over'));
  assert.ok((await pending).done);
  assert.deepEqual(
    ends.map((how) => (typeof how === 'string' ? how : 'failure')),
    ['ended', 'failure', 'dropped'],
  );
  assert.deepEqual([whole.closed, failing.closed, abandoned.closed], [true, true, true]);
  assert.equal(scope.openHandles, 0);
});

test('a lazy promise is made once, when it is asked for', async () => {
  let made = 0;
  const lazy = lazily(async () => ++made);
  assert.equal(made, 0);
  assert.deepEqual([await lazy, await lazy], [1, 1]);
  heedlessly(lazily(() => Promise.reject(new Error('nobody cares'))));
  await turn();
});
