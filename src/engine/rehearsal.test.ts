import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { rehearse, wholeRehearsal } from './rehearsal.ts';

test('a rehearsal goes through all its requests and leaves no descriptor open', async () => {
  const before = readdirSync('/proc/self/fd').length;
  let asked = 0;
  await rehearse(wholeRehearsal, () => {
    asked += 1;
    return false;
  });
  assert.equal(asked, 20);
  // Sockets are closed when the loop comes round.
  while (readdirSync('/proc/self/fd').length > before) await new Promise(setImmediate);
});

test('a rehearsal gives way when it is told to stop', async () => {
  let asked = 0;
  await rehearse(wholeRehearsal, () => {
    asked += 1;
    return asked === 3;
  });
  assert.equal(asked, 3);
});
