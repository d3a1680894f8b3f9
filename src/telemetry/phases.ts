/**
 * How long each phase of something took, milliseconds with one decimal. A phase begins where the one before it ended;
 * one that comes again is added up.
 */
export class Phases<Name extends string> {
  readonly ended: Partial<Record<Name, number>> = {};
  #start = performance.now();

  end(phase: Name): void {
    const now = performance.now();
    this.ended[phase] = Math.round(10 * ((this.ended[phase] ?? 0) + now - this.#start)) / 10;
    this.#start = now;
  }
}
