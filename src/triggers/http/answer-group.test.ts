import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { AnswerGroup, type HeldAnswer, longestWaitMs, mostTogether } from './answer-group.ts';

/** A group and what it has sent, each answer by its name; `~` before those whose turn ended first. */
function makeGroup() {
  const group = new AnswerGroup();
  const sent: string[] = [];
  const begin = (name: string): HeldAnswer => {
    let whole = false;
    const answer: HeldAnswer = {
      send: () => {
        whole = true;
        sent.push(name);
      },
      endOfTurn: () => {
        if (!whole) sent.push(`~${name}`);
      },
    };
    group.begin(answer);
    return answer;
  };
  const give = (...names: readonly string[]): void => {
    for (const name of names) group.complete(begin(name));
  };
  /** Has the group expect more than one answer in the next turn. */
  const makeBusy = async (): Promise<void> => {
    give('x', 'y');
    await turn();
    sent.length = 0;
  };
  return { group, sent, begin, give, makeBusy };
}

test('after a turn with one answer the next is sent at once; after one with two all go out by the end of the turn', async () => {
  const { give, group, sent } = makeGroup();
  give('a');
  assert.deepEqual(sent, ['a']);
  await turn();
  give('b');
  assert.deepEqual(sent, ['a', 'b']);
  give('c');
  assert.deepEqual([sent.length, group.waiting], [2, 1]);
  await turn();
  assert.deepEqual([...sent], ['a', 'b', 'c']);
  give('d');
  assert.deepEqual([sent.length, group.waiting], [3, 1]);
  await turn();
  assert.equal(sent.at(-1), 'd');
  give('e');
  assert.deepEqual([sent.at(-1), group.waiting], ['e', 0]);
});

test(`${mostTogether} answers are sent when the last of them is complete, those after them with the next`, async () => {
  const { give, group, makeBusy, sent } = makeGroup();
  await makeBusy();
  const names = Array.from({ length: mostTogether }, (_, index) => `${index}`);
  give(...names.slice(1));
  assert.deepEqual([sent.length, group.waiting], [0, mostTogether - 1]);
  give('last');
  assert.deepEqual(sent, [...names.slice(1), 'last']);
  give('next');
  assert.deepEqual([sent.length, group.waiting], [mostTogether, 1]);
  await turn();
  assert.equal(sent.at(-1), 'next');
});

test('answers that are not complete when their turn ends are told so, after those that are', async () => {
  const { begin, give, group, makeBusy, sent } = makeGroup();
  await makeBusy();
  const open = begin('open');
  give('a');
  assert.deepEqual(sent, []);
  await turn();
  assert.deepEqual(sent, ['a', '~open']);
  group.sendComplete();
  assert.equal(sent.length, 2);
  open.send();
});

test('before a guest goes on what has waited for its time is sent, before a slow guest everything', async () => {
  const { give, group, makeBusy, sent } = makeGroup();
  await makeBusy();
  const before = performance.now();
  give('a');
  const after = performance.now();
  group.beforeGuest(before + longestWaitMs - 0.01, false);
  assert.deepEqual(sent, []);
  group.beforeGuest(after + longestWaitMs, false);
  assert.deepEqual(sent, ['a']);
  give('b');
  group.beforeGuest(before, true);
  assert.deepEqual(sent, ['a', 'b']);
});

test('the answer of a slow guest is sent when it is complete, that of the next guest waits', async () => {
  const { give, group, makeBusy, sent } = makeGroup();
  await makeBusy();
  group.beforeGuest(performance.now(), true);
  give('slow', 'too');
  assert.deepEqual(sent, ['slow', 'too']);
  group.beforeGuest(performance.now(), false);
  give('quick');
  assert.deepEqual([sent.length, group.waiting], [2, 1]);
});

test('who is about to cut a connection has everything sent that is complete, in order', async () => {
  const { begin, give, group, makeBusy, sent } = makeGroup();
  await makeBusy();
  give('a');
  begin('open');
  give('b');
  group.sendComplete();
  assert.deepEqual([[...sent], group.waiting], [['a', 'b'], 0]);
  await turn();
  assert.deepEqual(sent, ['a', 'b', '~open']);
});
