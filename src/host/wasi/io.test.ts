import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { BodyChannel, maxUnattachedBytes } from './http/body-channel.ts';
import { Pollable, poll, Signal } from './io.ts';

const limits = { maxHandles: 3, maxHeldBytes: 2 * maxUnattachedBytes };

test('a list of as many pollables as there may be handles is waited for, a longer one ends the guest by name', async () => {
  const scope = new InstanceScope(limits);
  const signal = new Signal();
  let ready = false;
  const pollable = new Pollable(scope, {
    isReady: () => ready,
    subscribe: (callback) => signal.subscribe(callback),
  });
  const waiting = poll(scope, [pollable, pollable, pollable]);
  assert.equal(scope.pendingWaits, 1);
  ready = true;
  signal.notify();
  assert.deepEqual([...(await waiting)], [0, 1, 2]);
  assert.throws(() => poll(scope, Array(4).fill(pollable)), {
    code: 'resource-exhausted',
    message: 'wasi:io/poll#poll was called with 4 pollables, the limit "maxHandles" is 3',
  });
});

test('pollables count as handles', () => {
  const scope = new InstanceScope(limits);
  const never = { isReady: () => false, subscribe: () => () => {} };
  const three = [1, 2, 3].map(() => new Pollable(scope, never));
  assert.throws(() => new Pollable(scope, never), {
    code: 'resource-exhausted',
    message: /"maxHandles" is 3/,
  });
  three[0]?.[Symbol.dispose]();
  new Pollable(scope, never);
});

test('a body that belongs to no message yet is kept up to its limit, then the guest has to wait', () => {
  const scope = new InstanceScope(limits);
  const body = new BodyChannel(scope, { message: 'response', contentLength: undefined });
  assert.equal(body.capacity(), maxUnattachedBytes);
  body.write(new Uint8Array(maxUnattachedBytes - 1));
  assert.equal(body.capacity(), 1);
  body.write(new Uint8Array(1));
  assert.equal(body.capacity(), 0);
});
