import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { HttpExchange } from '../host/http-exchange.ts';
import type { ComponentGrant } from '../host/imports.ts';
import { LineThrottle } from '../telemetry/line-throttle.ts';
import { type AppLimits, defaultAppLimits } from './app-limits.ts';
import { type HttpComponent, invokeHttp } from './http-invocation.ts';
import { Permits } from './permits.ts';
import { RequestBoard } from './request-board.ts';
import { RequestDesk } from './request-desk.ts';

/** An app with room for one instance, which `acquire` makes, and what becomes of requests to it. */
function smallApp(changes: Partial<AppLimits>, acquire: (board: RequestBoard) => never) {
  const limits = { ...defaultAppLimits, maxInstances: 1, ...changes };
  const permits = new Permits(limits);
  const board = new RequestBoard();
  const lines: string[] = [];
  const answers: string[] = [];
  const exchange: HttpExchange = {
    method: 'GET',
    scheme: 'http',
    authority: 'a',
    pathWithQuery: '/x?secret',
    headers: [],
    body: Readable.from([]),
    trailers: () => [],
    signal: new AbortController().signal,
    response: {
      started: false,
      start: (status, fields) =>
        void answers.push([status, ...fields.map(([name, value]) => `${name}: ${value}`)].join(', ')),
      write: () => {},
      capacity: () => 1,
      onDrain: () => () => {},
      isFlushed: () => true,
      end: () => {},
      abort: () => {},
    },
  };
  const component = {
    runtime: { id: 'c', acquire: () => acquire(board) },
    grant: { http: { warn: (line: string) => void lines.push(line) } } as unknown as ComponentGrant,
    handler: 'h',
    refusals: new LineThrottle((line) => lines.push(line)),
  } as unknown as HttpComponent;
  const desk = new RequestDesk(limits, permits, board, { wake: () => {}, beforeGuest: () => {} });
  return { answers, desk, lines, permits, request: () => invokeHttp(component, exchange, desk) };
}

/** The same whose only permit is taken. */
function fullApp(changes: Partial<AppLimits>) {
  const app = smallApp(changes, () => assert.fail('an instance was made'));
  app.permits.tryAcquire();
  return app;
}

test('requests that find the queue full are 503 with the time to come again, no instance is made, one line tells of all', async () => {
  const { answers, desk, lines, request } = fullApp({ maxWaiting: 0 });
  await Promise.all([request(), request(), request()]);
  assert.deepEqual(answers, Array(3).fill('503, retry-after: 1, content-length: 0'));
  assert.deepEqual(lines, [
    'component "c" was not called: all 1 instances (SPIN_MAX_INSTANCE_COUNT) serve requests and 0 more requests wait (SPIN_MAX_WAITING_REQUESTS)',
  ]);
  assert.equal(desk.size, 0);
});

test('a request that waits too long for an instance is 503', async () => {
  const { answers, lines, request } = fullApp({ queueTimeoutMs: 1 });
  await request();
  assert.deepEqual(answers, ['503, retry-after: 1, content-length: 0']);
  assert.match(lines.join(), /waited for one of 1 instances .* for 1 ms \(SPIN_QUEUE_TIMEOUT\)/);
});

test('a request whose time is over while it waits for an instance is 504', async () => {
  const { answers, desk, lines, request } = fullApp({ requestTimeoutMs: 1 });
  await request();
  assert.deepEqual(answers, ['504, content-length: 0']);
  assert.deepEqual(lines, [
    'component "c" was not called: the request took longer than 1 ms (SPIN_REQUEST_TIMEOUT) (GET /x)',
  ]);
  assert.equal(desk.size, 0);
});

test('a guest whose start-up code computes is on the board with its request: its time is counted as well', async () => {
  const during: (string | undefined)[] = [];
  const { answers, request } = smallApp({}, (board) => {
    during.push(board.busy() === undefined ? undefined : board.current());
    throw new Error('its start failed');
  });
  await request();
  assert.deepEqual(during, ['component "c", GET /x']);
  assert.deepEqual(answers, ['500, content-length: 0']);
});
