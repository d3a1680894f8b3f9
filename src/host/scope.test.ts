import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InstanceScope } from './scope.ts';

function objectsOf(scope: InstanceScope, count: number, disposed: number[]): Disposable[] {
  return Array.from({ length: count }, (_, index) => {
    const object = { [Symbol.dispose]: () => void disposed.push(index) };
    scope.adopt(object);
    return object;
  });
}

// Beyond sixteen open objects they are kept in another form.
for (const count of [1, 15, 16, 17, 40]) {
  test(`of ${count} open objects those that were not released are disposed once, in order`, () => {
    const scope = new InstanceScope();
    const disposed: number[] = [];
    const objects = objectsOf(scope, count, disposed);
    const released = [0, count - 1, count >> 1];
    for (const index of released) scope.release(objects[index] as Disposable);
    scope.release({ [Symbol.dispose]: () => {} });
    const left = objects.map((_, index) => index).filter((index) => !released.includes(index));
    assert.equal(scope.openHandles, left.length);
    scope.end(new Error('over'));
    scope.end(new Error('again'));
    assert.deepEqual(disposed, left);
    assert.equal(scope.openHandles, 0);
    assert.throws(() => objectsOf(scope, 1, disposed), /over/);
  });
}

for (const limit of [1, 16, 17, 30]) {
  test(`the limit of ${limit} host objects is reached at the next one, and released ones make room`, () => {
    const scope = new InstanceScope({ maxHandles: limit, maxHeldBytes: 0 });
    const [first] = objectsOf(scope, limit, []);
    assert.throws(() => objectsOf(scope, 1, []), /maxHandles/);
    scope.release(first as Disposable);
    objectsOf(scope, 1, []);
    assert.throws(() => objectsOf(scope, 1, []), /maxHandles/);
  });
}

test('pending waits and results are rejected when the scope ends, those that are over are not', async () => {
  const scope = new InstanceScope();
  let cancelled = 0;
  const over = scope.wait((resolve) => {
    resolve();
    return () => {};
  });
  await over;
  const waits = [scope.wait(() => () => void cancelled++), scope.settle(new Promise(() => {}))];
  assert.equal(scope.pendingWaits, 2);
  scope.end(new Error('over'));
  for (const wait of waits) await assert.rejects(wait, /over/);
  assert.equal(cancelled, 1);
  assert.equal(scope.pendingWaits, 0);
});
