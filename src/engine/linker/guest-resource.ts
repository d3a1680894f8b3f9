/** A resource that a component defines itself, in the host's hands. */
export class GuestResource {
  readonly resource: number;
  #representation: number | undefined;

  constructor(resource: number, representation: number) {
    this.resource = resource;
    this.#representation = representation;
  }

  /** The number by which the component knows it; undefined once it was given back. */
  get representation(): number | undefined {
    return this.#representation;
  }

  /** Marks it as given back to the component. */
  release(): void {
    this.#representation = undefined;
  }
}
