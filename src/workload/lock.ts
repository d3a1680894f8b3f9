/** Runs one operation at a time, in the order they were asked for. A failed one does not hold up the next. */
export class Lock {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Whether nothing runs or waits. */
  get idle(): boolean {
    return this.#waiting === 0;
  }

  run<T>(operation: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#tail.then(operation).finally(() => this.#waiting--);
    this.#tail = result.catch(() => {});
    return result;
  }
}
