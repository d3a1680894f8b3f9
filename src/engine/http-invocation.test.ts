import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { HttpExchange } from '../host/http-exchange.ts';
import type { ComponentGrant } from '../host/imports.ts';
import { type HttpComponent, invokeHttp } from './http-invocation.ts';
import { Permits } from './permits.ts';

test('a request that finds the queue full is 500 and one line, and no instance is made', async () => {
  const permits = new Permits(1, 0);
  await permits.acquire(new AbortController().signal);
  const lines: string[] = [];
  const answered: number[] = [];
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
      start: (status) => void answered.push(status),
      write: () => {},
      capacity: () => 1,
      onDrain: () => () => {},
      isFlushed: () => true,
      end: () => {},
      abort: () => {},
    },
  };
  const component = {
    runtime: { id: 'c', instantiate: () => assert.fail('an instance was made') },
    grant: { http: { warn: (line: string) => void lines.push(line) } } as unknown as ComponentGrant,
    handler: 'h',
    missing: [],
  } as unknown as HttpComponent;
  await invokeHttp(component, exchange, permits);
  assert.deepEqual(answered, [500]);
  assert.deepEqual(lines, [
    'component "c" was not called: 0 requests wait for an instance already, the limit is 0 (GET /x)',
  ]);
});
