import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import { assertAllowed, type TaskOperation, type TaskState } from './task-state.ts';

const exit = { exitCode: 0, exitedAt: new Date(0) };
const states: readonly TaskState[] = [
  { kind: 'created' },
  { kind: 'running' },
  { kind: 'paused' },
  { kind: 'stopped', exit },
];

/** Operation → what each state answers: `ok`, `precondition` (9) or `gone` (5), in the order of `states`. */
const table: readonly (readonly [TaskOperation, readonly [string, string, string, string]])[] = [
  ['start', ['ok', 'precondition', 'precondition', 'precondition']],
  ['kill', ['ok', 'ok', 'ok', 'gone']],
  ['pause', ['precondition', 'ok', 'precondition', 'precondition']],
  ['resume', ['precondition', 'precondition', 'ok', 'precondition']],
  ['delete', ['ok', 'precondition', 'precondition', 'ok']],
  ['update', ['ok', 'ok', 'ok', 'precondition']],
  ['exec', ['precondition', 'ok', 'precondition', 'precondition']],
];

function answer(state: TaskState, operation: TaskOperation): string {
  try {
    assertAllowed(state, operation, 'x');
    return 'ok';
  } catch (error) {
    assert.ok(error instanceof ShimError);
    assert.match(error.message, /: task "x"$/);
    return error.code === 'not-found'
      ? 'gone'
      : error.code === 'failed-precondition'
        ? 'precondition'
        : error.code;
  }
}

for (const [operation, answers] of table) {
  test(`${operation} is answered by state`, () => {
    assert.deepEqual(
      states.map((state) => answer(state, operation)),
      answers,
    );
  });
}

test('a kill after the end is worded as runc words it', () => {
  assert.throws(() => assertAllowed({ kind: 'stopped', exit }, 'kill', 'x'), /process already finished/);
});
