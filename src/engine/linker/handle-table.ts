import { trap } from './trap.ts';

/** Handles one instance may have at once. Host objects have a lower limit of their own (`maxHandles` of the scope). */
export const maxTableHandles = 100_000;

/** What stands behind one handle of a guest. */
export type HandleEntry = {
  readonly resource: number;
  /** The host's object, or the number by which the component knows a resource of its own. */
  readonly value: unknown;
  /** Undefined for an owned handle; for a borrowed one the call it was lent to. */
  readonly call: CallScope | undefined;
  /** Host calls under way that hold this handle as borrowed. */
  lends: number;
};

/** Counts the handles lent to an exported function, which has to drop them before it returns. */
export type CallScope = { borrows: number };

/** The handles of one instance. Handle 0 is never given out; every use checks presence and resource type. */
export class HandleTable {
  #entries: (HandleEntry | undefined)[] = [undefined];
  #free: number[] = [];

  /** Handles in use. */
  get size(): number {
    return this.#entries.length - 1 - this.#free.length;
  }

  /** Gives out a handle that owns `value`. */
  addOwn(resource: number, value: unknown): number {
    return this.#add({ resource, value, call: undefined, lends: 0 });
  }

  /** Gives out a handle that is lent until `call` is over. */
  addBorrow(resource: number, value: unknown, call: CallScope): number {
    call.borrows += 1;
    return this.#add({ resource, value, call, lends: 0 });
  }

  /** The entry of a handle, owned or borrowed. */
  get(handle: number, resource: number): HandleEntry {
    const entry = this.#entries[handle >>> 0];
    if (entry === undefined) trap(`handle ${handle >>> 0} is not in use`);
    if (entry.resource !== resource) trap(`handle ${handle >>> 0} is of another resource type`);
    return entry;
  }

  /** Takes an owned handle away from the guest and returns what it stood for. */
  takeOwn(handle: number, resource: number): unknown {
    const entry = this.get(handle, resource);
    if (entry.call !== undefined) trap(`handle ${handle >>> 0} is only borrowed`);
    this.#remove(handle >>> 0, entry);
    return entry.value;
  }

  /** Takes a handle away because the guest drops it. */
  drop(handle: number, resource: number): HandleEntry {
    const entry = this.get(handle, resource);
    this.#remove(handle >>> 0, entry);
    if (entry.call !== undefined) entry.call.borrows -= 1;
    return entry;
  }

  /** Forgets every handle; what they stood for is for its owner (the scope) to dispose. */
  clear(): void {
    if (this.#entries.length === 1) return;
    this.#entries = [undefined];
    this.#free = [];
  }

  #add(entry: HandleEntry): number {
    const free = this.#free.pop();
    if (free !== undefined) {
      this.#entries[free] = entry;
      return free;
    }
    if (this.#entries.length > maxTableHandles) trap(`it has more than ${maxTableHandles} handles`);
    return this.#entries.push(entry) - 1;
  }

  #remove(handle: number, entry: HandleEntry): void {
    if (entry.lends > 0) trap(`handle ${handle} is in use by a host call`);
    this.#entries[handle] = undefined;
    this.#free.push(handle);
  }
}
