import { ShimError } from '../error.ts';

/** What one instance may make the host hold. Bytes and counts; every limit has a message that names it. */
export type InstanceLimits = {
  /** Host objects (streams, pollables, fields, descriptors, …) alive at once. */
  readonly maxHandles: number;
  /** Bytes of request or response bodies, headers and files held for the guest at once. */
  readonly maxHeldBytes: number;
};

/** Limits that suit a small node: 10,000 handles and 64 MiB. */
export const defaultInstanceLimits: InstanceLimits = { maxHandles: 10_000, maxHeldBytes: 64 * 1024 * 1024 };

/** Open objects up to which a list is searched, which for a few is faster than a set. */
const maxListed = 16;

/** The open objects of a scope, in the order of their making. */
class OpenObjects {
  #list: Disposable[] = [];
  /** Takes the place of the list once that is full. */
  #set: Set<Disposable> | undefined;

  get size(): number {
    return this.#set?.size ?? this.#list.length;
  }

  add(object: Disposable): void {
    if (this.#set !== undefined) this.#set.add(object);
    else if (this.#list.length < maxListed) this.#list.push(object);
    else this.#set = new Set(this.#list).add(object);
  }

  delete(object: Disposable): void {
    if (this.#set !== undefined) {
      this.#set.delete(object);
      return;
    }
    const list = this.#list;
    const index = list.lastIndexOf(object);
    if (index < 0) return;
    for (let next = index + 1; next < list.length; next++) list[next - 1] = list[next] as Disposable;
    list.pop();
  }

  /** Removes all of them. */
  takeAll(): Iterable<Disposable> {
    const all = this.#set ?? this.#list;
    this.#set = undefined;
    this.#list = [];
    return all;
  }
}

/**
 * Where the host objects of an instance find the scope they work in. They are made once for an instance and outlive its
 * requests; each request has a scope of its own.
 */
export interface ScopeSource {
  readonly scope: InstanceScope;
}

/**
 * Everything the host holds for one request: its open objects, its pending waits, its quota. When the request is over
 * or abandoned the scope is ended: every pending wait is rejected (V8 never frees a suspended stack whose promise does
 * not settle, reference/engine.md section 4) and every object still open is disposed.
 */
export class InstanceScope implements ScopeSource {
  readonly limits: InstanceLimits;
  #rejections: Set<(reason: Error) => void> | undefined;
  readonly #open = new OpenObjects();
  #heldBytes = 0;
  #awaitedOfGuest = 0;
  #ended: Error | undefined;

  constructor(limits: InstanceLimits = defaultInstanceLimits) {
    this.limits = limits;
  }

  /** Itself: host objects that live no longer than one request take it as it is. */
  get scope(): InstanceScope {
    return this;
  }

  /** The reason the scope ended, or undefined while it lives. */
  get ended(): Error | undefined {
    return this.#ended;
  }

  /** How many host objects are open; for tests and for the leak check. */
  get openHandles(): number {
    return this.#open.size;
  }

  /** How many waits of the host's are pending, each of which ends by itself. */
  get pendingWaits(): number {
    return (this.#rejections?.size ?? 0) - this.#awaitedOfGuest;
  }

  /**
   * Waits for `start` to call back. Rejects when the scope ends first; `start` returns what cancels it.
   * All waiting a guest does goes through here.
   */
  wait(start: (resolve: () => void) => () => void): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      let cancel: (() => void) | undefined;
      let settled = false;
      const settle = (finish: () => void): void => {
        if (settled) return;
        settled = true;
        this.#rejections?.delete(abandon);
        cancel?.();
        finish();
      };
      const abandon = (reason: Error): void => settle(() => reject(reason));
      this.#onEnd(abandon);
      cancel = start(() => {
        if (settled) return;
        this.resumed();
        settle(resolve);
      });
      if (settled) cancel();
    });
  }

  /**
   * Passes on what a guest is to do (return, write, resolve), unless the scope ends first. No wait of the host's: the
   * guest alone can end it.
   */
  async ofGuest<T>(promise: Promise<T>): Promise<T> {
    this.#awaitedOfGuest += 1;
    try {
      return await this.settle(promise);
    } finally {
      this.#awaitedOfGuest -= 1;
    }
  }

  /** Passes a promise's result on, unless the scope ends first; the promise itself is not cancelled. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    if (this.#ended !== undefined) {
      promise.catch(() => {});
      throw this.#ended;
    }
    return new Promise<T>((resolve, reject) => {
      const abandon = (reason: Error): void => reject(reason);
      this.#onEnd(abandon);
      promise.then(
        (value) => {
          this.#rejections?.delete(abandon);
          this.resumed();
          resolve(value);
        },
        (error: unknown) => {
          this.#rejections?.delete(abandon);
          this.resumed();
          reject(error);
        },
      );
    });
  }

  /** Counts a host object as open until `release`. Throws (the guest traps) above `maxHandles`. */
  adopt(object: Disposable): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#open.size >= this.limits.maxHandles) {
      throw new ShimError(
        'resource-exhausted',
        `the guest holds ${this.#open.size} host objects, the limit "maxHandles" is ${this.limits.maxHandles}: drop handles that are no longer used`,
      );
    }
    this.#open.add(object);
  }

  /** Takes an object off the books; harmless when it was not on them. */
  release(object: Disposable): void {
    this.#open.delete(object);
  }

  /** Charges bytes the host holds for the guest. Throws (the guest traps) above `maxHeldBytes`, charging nothing. */
  charge(bytes: number): void {
    if (this.#heldBytes + bytes > this.limits.maxHeldBytes) {
      throw new ShimError(
        'resource-exhausted',
        `the guest makes the host hold ${this.#heldBytes + bytes} bytes, the limit "maxHeldBytes" is ${this.limits.maxHeldBytes}`,
      );
    }
    this.#heldBytes += bytes;
  }

  /** Gives charged bytes back. */
  refund(bytes: number): void {
    this.#heldBytes = Math.max(0, this.#heldBytes - bytes);
  }

  /** Ends the scope: rejects every pending wait with `reason`, disposes every open object. Idempotent. */
  end(reason: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    const rejections = this.#rejections;
    this.#rejections = undefined;
    if (rejections !== undefined) for (const reject of rejections) reject(reason);
    for (const object of this.#open.takeAll()) object[Symbol.dispose]();
  }

  /** A wait is over and the guest goes on; for whoever minds the time that guests take. */
  protected resumed(): void {}

  #onEnd(abandon: (reason: Error) => void): void {
    this.#rejections ??= new Set();
    this.#rejections.add(abandon);
  }
}

/** What an interface keeps for each request by itself, such as a quota: made when first needed, gone with the scope. */
export function perScope<T extends object>(make: (scope: InstanceScope) => T): (scope: InstanceScope) => T {
  const known = new WeakMap<InstanceScope, T>();
  return (scope) => {
    const before = known.get(scope);
    if (before !== undefined) return before;
    const made = make(scope);
    known.set(scope, made);
    return made;
  };
}

/** A scope that has ended: where host objects are while their instance serves no request. */
export const noRequest: InstanceScope = new InstanceScope();
noRequest.end(new Error('the instance serves no request'));
