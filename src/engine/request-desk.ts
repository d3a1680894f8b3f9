import { ShimError } from '../error.ts';
import { InstanceScope } from '../host/scope.ts';
import { type AppLimits, formatDuration, limitSettings } from './app-limits.ts';
import { GuestPace } from './guest-pace.ts';
import type { Permits } from './permits.ts';
import { clockMs, msBetween, type RequestBoard } from './request-board.ts';

/**
 * A guest that is on the CPU when its request's time is over may go on for this long, milliseconds: ending it takes its
 * worker along, with the requests of others, and most are about to wait or to return.
 */
export const lateGuestGraceMs = 20;

/** What the desk has to tell. */
export type DeskEvents = {
  /** A guest went on while nobody watches the board. */
  readonly wake: () => void;
  /** A guest is about to go on; `now` is `performance.now()`, `slow` tells what guests of its component did of late. */
  readonly beforeGuest: (now: number, slow: boolean) => void;
};

/** A request in flight: how it is described, and its age. */
export type OldRequest = { readonly text: string; readonly milliseconds: number };

/**
 * The requests in flight of one worker: each has its time, its place on the board, and a permit while it has an instance.
 * All of them are begun in the order in which their time is over, so one timer serves them all.
 */
export class RequestDesk {
  readonly permits: Permits;
  readonly #limits: AppLimits;
  readonly #board: RequestBoard;
  readonly #events: DeskEvents;
  readonly #inFlight = new Set<RequestScope>();
  #timer: NodeJS.Timeout | undefined;
  /** The request whose guest went on last in this turn of the event loop. */
  #current: RequestScope | undefined;
  /** Since when, on the clock of `performance.now`. */
  #since = 0;
  readonly #onTurn = (): void => {
    this.#current?.pace.note(performance.now() - this.#since);
    this.#current = undefined;
    this.#board.leave();
  };

  constructor(limits: AppLimits, permits: Permits, board: RequestBoard, events: DeskEvents) {
    this.permits = permits;
    this.#limits = limits;
    this.#board = board;
    this.#events = events;
  }

  /** Requests in flight. */
  get size(): number {
    return this.#inFlight.size;
  }

  /** The `most` requests that began first, for whoever looks from outside. */
  oldest(most: number): readonly OldRequest[] {
    const now = clockMs();
    return [...this.#inFlight.values().take(most)].map(({ slot, begun }) => ({
      text: this.#board.textOf(slot) ?? '?',
      milliseconds: msBetween(now, begun),
    }));
  }

  /** A request has arrived; `text` describes it in the log, `pace` is that of its component. Its time begins. */
  open(text: string, pace: GuestPace = new GuestPace()): RequestScope {
    const scope = new RequestScope(this, this.#board.begin(text), clockMs(), pace);
    this.#inFlight.add(scope);
    if (this.#timer === undefined && this.#limits.requestTimeoutMs !== 0)
      this.#arm(this.#limits.requestTimeoutMs);
    return scope;
  }

  /** A request is over; its scope has ended. */
  close(scope: RequestScope): void {
    if (this.#inFlight.delete(scope)) this.#board.end(scope.slot);
  }

  /** The guest of a request goes on: it gets its time on the CPU, no longer than its request's. */
  enter(scope: RequestScope): void {
    // Anew in each turn only: who never lets the loop turn has but one stretch of time.
    if (this.#current === scope) return;
    const board = this.#board;
    const reading = performance.now();
    const now = clockMs(reading);
    this.#current?.pace.note(reading - this.#since);
    this.#since = reading;
    const { busyTimeoutMs, requestTimeoutMs } = this.#limits;
    const ownMs =
      requestTimeoutMs === 0
        ? Number.MAX_SAFE_INTEGER
        : Math.max(lateGuestGraceMs, scope.begun + requestTimeoutMs - now);
    const dueMs = Math.min(ownMs, busyTimeoutMs === 0 ? longestMs : busyTimeoutMs, longestMs);
    board.enter(scope.slot, now, (now + dueMs) | 0);
    if (this.#current === undefined) setImmediate(this.#onTurn);
    this.#current = scope;
    this.#events.beforeGuest(reading, scope.pace.isSlow);
    if (board.watched) return;
    board.watched = true;
    this.#events.wake();
  }

  #arm(milliseconds: number): void {
    this.#timer = setTimeout(() => this.#expire(), milliseconds).unref();
  }

  #expire(): void {
    this.#timer = undefined;
    const { requestTimeoutMs } = this.#limits;
    for (const scope of this.#inFlight) {
      const remaining = (scope.begun + requestTimeoutMs - clockMs()) | 0;
      if (remaining > 0) {
        this.#arm(remaining);
        return;
      }
      scope.end(overdue(requestTimeoutMs));
      this.close(scope);
    }
  }
}

/** A day: what a guest without any limit has before the main thread looks again. */
const longestMs = 86_400_000;

function overdue(requestTimeoutMs: number): ShimError {
  return new ShimError(
    'deadline-exceeded',
    `the request took longer than ${formatDuration(requestTimeoutMs)} (${limitSettings.requestTimeoutMs.name})`,
  );
}

/** Everything the host holds for one request, with its place at the desk. */
export class RequestScope extends InstanceScope {
  /** Where the board describes it. */
  readonly slot: number;
  /** When it arrived, on the clock of the board. */
  readonly begun: number;
  /** How long guests of its component keep the thread. */
  readonly pace: GuestPace;
  readonly #desk: RequestDesk;

  constructor(desk: RequestDesk, slot: number, begun: number, pace: GuestPace) {
    super();
    this.#desk = desk;
    this.slot = slot;
    this.begun = begun;
    this.pace = pace;
  }

  protected override resumed(): void {
    this.#desk.enter(this);
  }
}
