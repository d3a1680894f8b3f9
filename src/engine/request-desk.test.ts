import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { AnswerGroup } from '../triggers/http/answer-group.ts';
import { type AppLimits, defaultAppLimits } from './app-limits.ts';
import { GuestPace, slowStretchMs } from './guest-pace.ts';
import { Permits } from './permits.ts';
import { msBetween, RequestBoard } from './request-board.ts';
import { lateGuestGraceMs, RequestDesk } from './request-desk.ts';

function makeDesk(changes: Partial<AppLimits> = {}, answers = new AnswerGroup()) {
  const limits = { ...defaultAppLimits, ...changes };
  const board = new RequestBoard();
  const woken: string[] = [];
  const desk = new RequestDesk(limits, new Permits(limits), board, {
    wake: () => void woken.push('woken'),
    beforeGuest: (now, slow) => answers.beforeGuest(now, slow),
  });
  return { board, desk, woken };
}

test('a request whose time is over: its waits are rejected with the name of the limit, one at a time', async () => {
  const { board, desk } = makeDesk({ requestTimeoutMs: 30 });
  const order: string[] = [];
  const expect = async (name: string, wait: Promise<void>): Promise<void> => {
    await assert.rejects(wait, {
      code: 'deadline-exceeded',
      message: 'the request took longer than 30 ms (SPIN_REQUEST_TIMEOUT)',
    });
    order.push(name);
  };
  const early = desk.open('early');
  const first = expect(
    'early',
    early.wait(() => () => {}),
  );
  await new Promise((resolve) => setTimeout(resolve, 5));
  const late = desk.open('late');
  const second = expect(
    'late',
    late.wait(() => () => {}),
  );
  await Promise.all([first, second]);
  assert.deepEqual(order, ['early', 'late']);
  assert.deepEqual([early.pendingWaits, late.pendingWaits, desk.size], [0, 0, 0]);
  desk.close(early);
  desk.close(late);
  assert.equal(board.inFlight(1).count, 0);
});

test('a request that is over in time is not ended, and the timer serves the next one', async () => {
  const { desk } = makeDesk({ requestTimeoutMs: 20 });
  const first = desk.open('first');
  desk.close(first);
  const second = desk.open('second');
  await assert.rejects(
    second.wait(() => () => {}),
    { code: 'deadline-exceeded' },
  );
  assert.equal(first.ended, undefined);
});

test('a guest on the CPU has its time, no longer than its request, but never less than the grace', async () => {
  const { board, desk } = makeDesk({ requestTimeoutMs: 5_000, busyTimeoutMs: 100 });
  const scope = desk.open('GET /');
  desk.enter(scope);
  const busy = board.busy();
  assert.ok(busy !== undefined);
  assert.equal(msBetween(busy.due, busy.since), 100);
  await turn();
  assert.equal(board.busy(), undefined);

  const short = makeDesk({ requestTimeoutMs: 1, busyTimeoutMs: 0 });
  const late = short.desk.open('GET /late');
  while (late.ended === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  short.desk.enter(late);
  const lateBusy = short.board.busy();
  assert.ok(lateBusy !== undefined);
  assert.equal(msBetween(lateBusy.due, lateBusy.since), lateGuestGraceMs);
});

test('a wait that is over puts its guest on the board; going on again in the same turn gives it no more time', async () => {
  const { board, desk, woken } = makeDesk();
  const [one, two] = [desk.open('GET /one'), desk.open('GET /two')];
  let go = (): void => {};
  const wait = one.wait((resolve) => {
    go = resolve;
    return () => {};
  });
  desk.enter(two);
  await turn();
  go();
  assert.equal(board.current(), 'GET /one');
  const first = board.busy();
  await wait;
  for (let count = 0; count < 1_000; count++) await one.settle(Promise.resolve());
  assert.deepEqual(board.busy(), first);
  assert.deepEqual(woken, ['woken']);
  await turn();
  board.watched = false;
  desk.enter(two);
  assert.deepEqual(woken, ['woken', 'woken']);
});

/** Keeps the thread as a guest that computes does. */
function compute(milliseconds: number): void {
  for (const until = performance.now() + milliseconds; performance.now() < until; );
}

test('after a component was slow once, an answer of another is sent before it is called again', async () => {
  const answers = new AnswerGroup();
  const { desk } = makeDesk({}, answers);
  const sent: string[] = [];
  const give = (name: string): void => {
    const answer = { send: () => void sent.push(name), endOfTurn: () => {} };
    answers.begin(answer);
    answers.complete(answer);
  };
  give('first');
  give('second');
  await turn();

  const [slow, other] = [new GuestPace(), new GuestPace()];
  desk.enter(desk.open('GET /slow', slow));
  compute(2 * slowStretchMs);
  // Where the next guest goes on the stretch is over.
  desk.enter(desk.open('GET /other', other));
  assert.deepEqual([slow.isSlow, sent.length], [true, 2]);
  give('held');
  assert.equal(answers.waiting, 1);
  desk.enter(desk.open('GET /slow', slow));
  assert.deepEqual([sent.at(-1), answers.waiting], ['held', 0]);
});

test('the last stretch of a turn counts as well', async () => {
  const { desk } = makeDesk();
  const pace = new GuestPace();
  desk.enter(desk.open('GET /', pace));
  compute(2 * slowStretchMs);
  await turn();
  assert.equal(pace.isSlow, true);
});
