import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quote, StatusCode, TtrpcError, toErrorStatusCode } from './status.ts';

test('from keeps a TtrpcError, tells aborts and timeouts, and takes anything else as Unknown', () => {
  const own = new TtrpcError(StatusCode.NotFound, 'gone');
  assert.equal(TtrpcError.from(own), own);
  assert.equal(TtrpcError.from(new DOMException('stop', 'AbortError')).code, StatusCode.Canceled);
  assert.equal(TtrpcError.from(new DOMException('late', 'TimeoutError')).code, StatusCode.DeadlineExceeded);
  const cause = new RangeError('odd');
  const unknown = TtrpcError.from(cause);
  assert.deepEqual([unknown.code, unknown.message, unknown.cause], [StatusCode.Unknown, 'odd', cause]);
  assert.equal(TtrpcError.from('text').message, 'text');
  assert.equal(TtrpcError.from(undefined, StatusCode.Internal).code, StatusCode.Internal);
});

test('a number outside the closed set, and success, become Unknown', () => {
  assert.equal(toErrorStatusCode(16), 16);
  for (const code of [0, 17, -1, 2.5, Number.NaN]) assert.equal(toErrorStatusCode(code), StatusCode.Unknown);
});

test('a quotation is escaped and cut', () => {
  assert.equal(quote('a"\n'), '"a\\"\\n"');
  assert.equal(quote('x'.repeat(201)), `"${'x'.repeat(200)}…"`);
});
