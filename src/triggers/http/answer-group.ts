/** Whole answers that are sent together at most. */
export const mostTogether = 8;

/** Time after which whole answers wait for no more of their turn, milliseconds. */
export const longestWaitMs = 1;

/** Whole answers that a turn has to have had for the first of the next one to be held. */
const busyTurn = 2;

/** An answer of which nothing has been sent. */
export type HeldAnswer = {
  /** Sends it; it is complete. */
  send(): void;
  /** The turn in which it was begun is over: sends what there is of one that is not complete. */
  endOfTurn(): void;
};

/**
 * The answers that a thread gives in one turn of its event loop. None of them is streamed before the turn is over, and
 * those that are complete go out a few at a time: each one that is sent by itself wakes a client that has just gone to
 * sleep, which costs more than the rest of a small answer. Nobody waits for company who is likely to be alone: after a
 * turn with one answer the first of the next is sent at once. Nobody waits for a guest that is known to keep the thread.
 */
export class AnswerGroup {
  #begun: HeldAnswer[] = [];
  #complete: HeldAnswer[] = [];
  /** When the first of those that are complete was held, on the clock of `performance.now`. */
  #since = 0;
  /** Answers completed in this turn, and in the last one in which any was begun. */
  #completed = 0;
  #completedBefore = 0;
  #slowGuest = false;
  readonly #onTurn = (): void => {
    const begun = this.#begun;
    this.#begun = [];
    this.#completedBefore = this.#completed;
    this.#completed = 0;
    this.sendComplete();
    for (const answer of begun) answer.endOfTurn();
  };

  /** Complete answers that wait for others. */
  get waiting(): number {
    return this.#complete.length;
  }

  /** An answer has its head: `endOfTurn` is called once this turn is over. */
  begin(answer: HeldAnswer): void {
    if (this.#begun.length === 0) setImmediate(this.#onTurn);
    this.#begun.push(answer);
  }

  /** An answer that was begun in this turn is complete: `send` is called, now or by the end of the turn. */
  complete(answer: HeldAnswer): void {
    this.#completed += 1;
    if (this.#slowGuest || (this.#completed < busyTurn && this.#completedBefore < busyTurn)) {
      answer.send();
      return;
    }
    const together = this.#complete.push(answer);
    if (together === 1) this.#since = performance.now();
    else if (together >= mostTogether) this.sendComplete();
  }

  /**
   * A guest is about to go on, and nothing can be sent until it returns or waits: sends what has waited long enough, or,
   * before a guest that is `slow`, everything; its own answer will not wait either. `now` is `performance.now()`.
   */
  beforeGuest(now: number, slow: boolean): void {
    this.#slowGuest = slow;
    if (this.#complete.length > 0 && (slow || now - this.#since >= longestWaitMs)) this.sendComplete();
  }

  /** Sends all answers that are complete; for whoever is about to end a connection in this turn. */
  sendComplete(): void {
    if (this.#complete.length === 0) return;
    const answers = this.#complete;
    this.#complete = [];
    for (const answer of answers) answer.send();
  }
}
