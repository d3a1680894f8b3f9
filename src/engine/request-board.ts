/** Requests of a worker that are described at once; more are only counted. */
const slots = 128;

/** Bytes kept of a request's description. */
const maxTextBytes = 252;

/** Places in the head of the memory, each an Int32. */
const place = { since: 0, due: 1, turnSince: 2, current: 3, inFlight: 4, watched: 5 } as const;
const headInts = 8;
const slotInts = 1 + maxTextBytes / 4;

/** Readings of two clocks that are this close, milliseconds, had no pause between them; most readings until then. */
const closeClockReadingsMs = 0.02;
const maxClockReadings = 100;

/** No request, or one that found no free slot. */
export const noSlot = -1;

/** A guest that is on the CPU, times in milliseconds on the clock of `clockMs`. */
export type BusyGuest = { readonly since: number; readonly due: number; readonly turnSince: number };

/**
 * What a worker does, in memory that the main thread reads while the worker is busy: the requests in flight and the guest
 * that is on the CPU. The worker alone writes, save for `watched`. One write of text for each request, a few of numbers
 * for each time that a guest goes on.
 */
export class RequestBoard {
  readonly buffer: SharedArrayBuffer;
  readonly #ints: Int32Array;
  readonly #text: Buffer;
  /** Free slots; only the worker's side uses them. */
  readonly #free: number[] = [];

  /** Without a buffer it makes one; the worker's side is given that of the main thread. */
  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 * (headInts + slots * slotInts))) {
    this.buffer = buffer;
    this.#ints = new Int32Array(buffer);
    this.#text = Buffer.from(buffer);
    for (let slot = slots - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  /** A request has begun: gives the slot that holds its description, cut to its size. */
  begin(text: string): number {
    this.#ints[place.inFlight] = (this.#ints[place.inFlight] ?? 0) + 1;
    const slot = this.#free.pop();
    if (slot === undefined) return noSlot;
    const start = headInts + slot * slotInts;
    Atomics.store(
      this.#ints,
      start,
      this.#text.write(text.slice(0, maxTextBytes), 4 * (start + 1), maxTextBytes),
    );
    return slot;
  }

  /** A request is over. */
  end(slot: number): void {
    this.#ints[place.inFlight] = (this.#ints[place.inFlight] ?? 0) - 1;
    if (slot === noSlot) return;
    Atomics.store(this.#ints, headInts + slot * slotInts, 0);
    this.#free.push(slot);
  }

  /** The guest of a request goes on; it has to stop by `due`. */
  enter(slot: number, since: number, due: number): void {
    const ints = this.#ints;
    if (ints[place.turnSince] === 0) ints[place.turnSince] = since;
    ints[place.current] = slot;
    ints[place.due] = due;
    Atomics.store(ints, place.since, since);
  }

  /** The worker's event loop turns: no guest is on the CPU. */
  leave(): void {
    this.#ints[place.turnSince] = 0;
    Atomics.store(this.#ints, place.since, 0);
  }

  /** Whether the main thread looks; the worker sets it when it has told the main thread to, which takes it back. */
  get watched(): boolean {
    return Atomics.load(this.#ints, place.watched) !== 0;
  }

  set watched(value: boolean) {
    Atomics.store(this.#ints, place.watched, value ? 1 : 0);
  }

  /** The guest that is on the CPU, if any is; one that stops or goes on while it is read, and another after it, is none. */
  busy(): BusyGuest | undefined {
    const ints = this.#ints;
    const since = Atomics.load(ints, place.since);
    const turnSince = Atomics.load(ints, place.turnSince);
    const due = Atomics.load(ints, place.due);
    // Written by the worker in several steps; what is read between them belongs to no guest.
    if (since === 0 || turnSince === 0 || Atomics.load(ints, place.since) !== since) return undefined;
    return { since, due, turnSince };
  }

  /** The description of the guest that is or was last on the CPU; undefined when its request is over. */
  current(): string | undefined {
    return this.textOf(this.#ints[place.current] ?? noSlot);
  }

  /** The requests in flight: how many, and the descriptions of the first `most` without that of `current`. */
  inFlight(most: number): { readonly count: number; readonly others: readonly string[] } {
    const others: string[] = [];
    const current = this.#ints[place.current] ?? noSlot;
    for (let slot = 0; slot < slots && others.length < most; slot++) {
      const text = slot === current ? undefined : this.textOf(slot);
      if (text !== undefined) others.push(text);
    }
    return { count: this.#ints[place.inFlight] ?? 0, others };
  }

  /** The description in a slot; undefined when no request has it. */
  textOf(slot: number): string | undefined {
    if (slot < 0 || slot >= slots) return undefined;
    const start = headInts + slot * slotInts;
    const length = Atomics.load(this.#ints, start);
    return length === 0 ? undefined : this.#text.toString('utf8', 4 * (start + 1), 4 * (start + 1) + length);
  }
}

/**
 * Milliseconds of the machine's monotonic clock, the same in all threads; never 0, and wraps after 24 days. `now` is a
 * reading of this thread's `performance.now()`.
 */
export function clockMs(now: number = performance.now()): number {
  return (now + clockOffset) | 0 || 1;
}

/** A thread's own `performance.now()` starts with the thread. */
const clockOffset = offsetOf(
  () => Number(process.hrtime.bigint() / 1_000n) / 1_000,
  () => performance.now(),
);

/**
 * How far `clock` is ahead of `own`, both in milliseconds. A thread that loses the CPU between the readings would take its pause for
 * a difference, and keep it for life: both are read again until no pause was between them, and the closest readings count.
 */
export function offsetOf(clock: () => number, own: () => number): number {
  let [offset, closest] = [0, Number.POSITIVE_INFINITY];
  for (let reading = 0; reading < maxClockReadings && closest > closeClockReadingsMs; reading++) {
    const before = clock();
    const ownTime = own();
    const apart = clock() - before;
    if (apart >= closest) continue;
    closest = apart;
    offset = before + apart / 2 - ownTime;
  }
  return offset;
}

/** `left - right`, of values that may have wrapped in between. */
export function msBetween(left: number, right: number): number {
  return (left - right) | 0;
}
