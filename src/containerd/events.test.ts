import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LogHub } from '../telemetry/log.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import { method } from '../ttrpc/service.ts';
import { EventPublisher, eventsServiceName } from './events.ts';
import type { AnyMessage } from './messages.ts';
import { ProtoFile } from './proto-file.ts';
import { encodeTaskEvent } from './task-events.ts';

type Forwarded = {
  readonly envelope: {
    readonly namespace: string;
    readonly topic: string;
    readonly timestamp: object | null;
    readonly event: AnyMessage;
  };
};

const folder = mkdtempSync(join(tmpdir(), 'spinshim-events-'));
after(() => rmSync(folder, { recursive: true }));

const forward = new ProtoFile('events_ttrpc.proto').method<Forwarded, object>(eventsServiceName, 'Forward');

/** containerd's end: keeps what comes, after asking `refuse`. */
async function serve(path: string, received: string[], refuse: (topic: string) => boolean = () => false) {
  const server = new TtrpcServer();
  const bound = method(forward, async ({ envelope }) => {
    if (refuse(envelope.topic)) throw new Error('not now');
    assert.equal(envelope.namespace, 'k8s.io');
    assert.notEqual(envelope.timestamp, null);
    received.push(envelope.topic);
    return {};
  });
  server.register(eventsServiceName, new Map([['Forward', bound]]));
  await server.listen(path);
  return server;
}

function publisher(path: string, log: string[] = [], maxQueued = 100): EventPublisher {
  const { logger } = new LogHub('warn', { write: (line) => log.push(line) });
  return new EventPublisher({ address: path, namespace: 'k8s.io', log: logger, maxQueued, retryPauseMs: 1 });
}

const event = encodeTaskEvent('TaskOOM', { containerId: 'x' }).event;

test('events arrive one by one in the order they were published', async () => {
  const received: string[] = [];
  const path = join(folder, 'order');
  const server = await serve(path, received);
  const events = publisher(path);
  const topics = Array.from({ length: 50 }, (_, index) => `/t/${index}`);
  for (const topic of topics) events.publish(topic, event);
  await events.flushed();
  assert.deepEqual(received, topics);
  events.close();
  await server.close();
});

test('events published while containerd is away arrive when it is back, in order', async () => {
  const received: string[] = [];
  const log: string[] = [];
  const path = join(folder, 'away');
  const first = await serve(path, received);
  const events = publisher(path, log);
  events.publish('/t/0', event);
  await events.flushed();
  await first.close();
  events.publish('/t/1', event);
  events.publish('/t/2', event);
  const second = await serve(path, received);
  await events.flushed();
  assert.deepEqual(received, ['/t/0', '/t/1', '/t/2']);
  events.close();
  await second.close();
});

test('an event that is refused five times is dropped and the next one goes on', async () => {
  const received: string[] = [];
  const log: string[] = [];
  const path = join(folder, 'refused');
  let refusals = 0;
  const server = await serve(path, received, (topic) => topic === '/bad' && ++refusals > 0);
  const events = publisher(path, log);
  const bad = events.publish('/bad', event);
  const good = events.publish('/good', event);
  await bad;
  assert.deepEqual(received, []);
  await good;
  assert.deepEqual(received, ['/good']);
  assert.equal(refusals, 5);
  assert.match(log.at(-1) ?? '', /topic=\/bad msg="event dropped after 5 attempts"/);
  events.close();
  await server.close();
});

test('the queue is bounded', async () => {
  const received: string[] = [];
  const log: string[] = [];
  const path = join(folder, 'bounded');
  const server = await serve(path, received);
  const events = publisher(path, log, 2);
  const told = ['/t/0', '/t/1', '/t/2'].map((topic) => events.publish(topic, event));
  await told[2];
  assert.deepEqual(received, []);
  await Promise.all(told);
  assert.deepEqual(received, ['/t/0', '/t/1']);
  assert.match(log.join(''), /topic=\/t\/2 msg="event dropped: too many wait for containerd"/);
  events.close();
  await server.close();
});

test('the type of an event is its bare name', () => {
  const encoded = encodeTaskEvent('TaskStart', { containerId: 'abc', pid: 7 });
  assert.equal(encoded.topic, '/tasks/start');
  assert.equal(encoded.event.type_url, 'containerd.events.TaskStart');
  assert.deepEqual(Buffer.from(encoded.event.value).toString('hex'), '0a036162631007');
});
