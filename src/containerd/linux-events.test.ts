import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EventEnvelope, forwardCodec } from './events.ts';
import { LinuxEvents } from './linux-events.ts';
import { encodeTaskEvent } from './task-events.ts';

const time = { seconds: 7, nanos: 0 };
const context = {
  ...{ service: '', method: 'Forward', metadata: new Map(), deadline: undefined },
  signal: new AbortController().signal,
};

function send(events: LinuxEvents, envelope: EventEnvelope | null): Promise<Uint8Array> | undefined {
  const payload = Buffer.from(forwardCodec.requestSerialize({ envelope }));
  return events.methods.get('Forward')?.(payload, context);
}

function deletionOf(containerId: string): EventEnvelope {
  const fields = { containerId, id: containerId, pid: 1, exitStatus: 0, exitedAt: time };
  return { timestamp: time, namespace: 'k8s.io', ...encodeTaskEvent('TaskDelete', fields) };
}

test('events go on as they came, and a deletion is noticed', async () => {
  const seen: EventEnvelope[] = [];
  const events = new LinuxEvents(async (envelope) => void seen.push(envelope));
  const told: string[] = [];
  const deleted = events.deletion('a').then(() => told.push('a'));
  void events.deletion('b').then(() => told.push('b'));
  const start = encodeTaskEvent('TaskStart', { containerId: 'a', pid: 1 });
  await send(events, { timestamp: time, namespace: 'k8s.io', ...start });
  assert.deepEqual(told, []);
  await send(events, deletionOf('a'));
  await deleted;
  assert.deepEqual(told, ['a']);
  assert.deepEqual(
    seen.map(({ topic, namespace, timestamp }) => [topic, namespace, timestamp]),
    [
      ['/tasks/start', 'k8s.io', time],
      ['/tasks/delete', 'k8s.io', time],
    ],
  );
});

const outOfMemory: EventEnvelope = {
  ...{ timestamp: time, namespace: 'k8s.io' },
  ...encodeTaskEvent('TaskOOM', { containerId: 'a' }),
};

test('want of memory that its shim has told of is not told again', async () => {
  const topics: string[] = [];
  const heard = Promise.withResolvers<void>();
  const events = new LinuxEvents(({ topic }) => {
    topics.push(topic);
    return heard.promise;
  });
  void events.deletion('a');
  for (let count = 0; count < 2; count++) await send(events, outOfMemory);
  let isTold = false;
  const telling = events.outOfMemory('a', 'k8s.io').then(() => {
    isTold = true;
  });
  await send(events, null);
  assert.equal(isTold, false);
  heard.resolve();
  await telling;
  assert.deepEqual(topics, ['/tasks/oom', '/tasks/oom']);
});

test('want of memory that its shim has not told of is told once, whatever that shim tells later', async () => {
  const seen: EventEnvelope[] = [];
  const events = new LinuxEvents(async (envelope) => void seen.push(envelope));
  void events.deletion('a');
  for (let count = 0; count < 2; count++) await events.outOfMemory('a', 'k8s.io');
  await send(events, outOfMemory);
  assert.deepEqual(
    seen.map(({ timestamp, ...envelope }) => [timestamp !== null, envelope]),
    [[true, { ...encodeTaskEvent('TaskOOM', { containerId: 'a' }), namespace: 'k8s.io' }]],
  );
  events.forget('a');
  await events.outOfMemory('a', 'k8s.io');
  await send(events, outOfMemory);
  assert.deepEqual(seen.slice(1), [outOfMemory]);
});

test('what nobody waits for and what is empty does no harm', async () => {
  const events = new LinuxEvents(async () => {});
  await send(events, deletionOf('unknown'));
  await send(events, null);
  void events.deletion('a');
  events.forget('a');
  await send(events, deletionOf('a'));
});
