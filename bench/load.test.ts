import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseWrk } from './load.ts';

const text = `Running 3s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   404.83us  182.56us   6.03ms   94.65%
    Req/Sec    79.81k     2.13k   82.44k    90.32%
  Latency Distribution
     50%  380.00us
     75%  403.00us
     90%  464.00us
     99%    1.10ms
  246054 requests in 3.10s, 37.55MB read
Requests/sec:  79373.01
Transfer/sec:     12.11MB
`;

test('the figures of wrk are read with their units', () => {
  assert.deepEqual(parseWrk(text), { requests: 246_054, perSecond: 79_373.01, p50Ms: 0.38, p99Ms: 1.1 });
});

test('an answer that is no success fails the round, and so does none at all', () => {
  assert.throws(() => parseWrk(`${text}\n  Non-2xx or 3xx responses: 7\n`), /responses: 7/);
  assert.throws(
    () => parseWrk(`${text}\n  Socket errors: connect 0, read 3, write 0, timeout 0\n`),
    /wrk says: Socket errors: connect 0, read 3/,
  );
  assert.throws(() => parseWrk(text.replace('246054 requests', '0 requests')), /not one request/);
  assert.throws(() => parseWrk('unable to connect'), /unable to connect/);
});
