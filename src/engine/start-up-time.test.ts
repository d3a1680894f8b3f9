import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { HttpExchange } from '../host/http-exchange.ts';
import { defaultAppLimits } from './app-limits.ts';
import { type HttpComponent, invokeHttp } from './http-invocation.ts';
import { Permits } from './permits.ts';
import { RequestBoard } from './request-board.ts';
import { RequestDesk } from './request-desk.ts';

test('a guest whose start-up code computes is on the board with its request: its time is counted as well', async () => {
  const board = new RequestBoard();
  const desk = new RequestDesk(defaultAppLimits, new Permits(defaultAppLimits), board, { wake: () => {} });
  const during: (string | undefined)[] = [];
  const component = {
    runtime: {
      id: 'c',
      acquire: () => {
        during.push(board.busy() === undefined ? undefined : board.current());
        throw new Error('its start failed');
      },
    },
    grant: { http: { warn: () => {} } },
    handler: 'h',
  } as unknown as HttpComponent;
  const statuses: number[] = [];
  const exchange: HttpExchange = {
    method: 'GET',
    scheme: 'http',
    authority: 'a',
    pathWithQuery: '/x',
    headers: [],
    body: Readable.from([]),
    trailers: () => [],
    signal: new AbortController().signal,
    response: {
      started: false,
      start: (status) => void statuses.push(status),
      write: () => {},
      capacity: () => 1,
      onDrain: () => () => {},
      isFlushed: () => true,
      end: () => {},
      abort: () => {},
    },
  };
  await invokeHttp(component, exchange, desk);
  assert.deepEqual(during, ['component "c", GET /x']);
  assert.deepEqual(statuses, [500]);
});
