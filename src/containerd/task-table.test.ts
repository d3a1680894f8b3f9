import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TaskTable } from './task-table.ts';

const never = new AbortController().signal;

test('an id is taken from the moment its creation begins', async () => {
  const table = new TaskTable();
  const { promise, reject } = Promise.withResolvers<never>();
  const first = table.create('a', never, () => promise);
  await assert.rejects(
    table.create('a', never, () => promise),
    { code: 'already-exists' },
  );
  assert.equal(table.size, 1);
  assert.throws(() => table.get('a'), { code: 'not-found' });
  reject(new Error('failed'));
  await assert.rejects(first, /failed/);
  assert.equal(table.size, 0);
});

test('a creation is given up by its caller and by a deletion', async () => {
  const table = new TaskTable();
  const caller = new AbortController();
  const aborted = (signal: AbortSignal): Promise<never> =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('given up'))));
  const first = table.create('a', caller.signal, aborted);
  caller.abort();
  await assert.rejects(first, /given up/);
  const second = table.create('a', never, aborted);
  table.abortCreation('a');
  await assert.rejects(second, /given up/);
});
