import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LastRequest } from './last-request.ts';

test('the other side of the buffer reads what was recorded last, cut to its size', () => {
  const here = new LastRequest();
  const there = new LastRequest(here.buffer);
  assert.equal(there.read(), undefined);
  here.record('GET /long');
  here.record('GET /');
  assert.equal(there.read(), 'GET /');
  here.record('x'.repeat(10_000));
  assert.equal(there.read(), 'x'.repeat(512));
});
