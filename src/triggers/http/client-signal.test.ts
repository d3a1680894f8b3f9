import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClientSignal } from './client-signal.ts';

test('who listens hears once that the client has gone, who took his listener back does not', () => {
  const signal = new ClientSignal();
  const heard: string[] = [];
  const first = (): void => void heard.push('first');
  signal.addEventListener('abort', first);
  signal.addEventListener('abort', () => heard.push('second'));
  signal.addEventListener('abort', () => heard.push('third'));
  signal.removeEventListener('abort', first);
  signal.removeEventListener('abort', first);
  assert.equal(signal.aborted, false);
  signal.throwIfAborted();
  const reason = new Error('gone');
  signal.abort(reason);
  signal.abort(new Error('gone again'));
  assert.deepEqual(heard, ['second', 'third']);
  assert.equal(signal.aborted, true);
  assert.equal(signal.reason, reason);
  assert.throws(() => signal.throwIfAborted(), reason);
});
