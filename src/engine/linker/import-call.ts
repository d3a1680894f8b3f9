import { ShimError } from '../../error.ts';
import { type CanonContext, listItemCharge } from './canon-context.ts';
import type { FlatValue } from './flat-codec.ts';
import type { HandleEntry, HandleTable } from './handle-table.ts';
import type { Callee, HostFunction } from './host-links.ts';

/** A host function as core code calls it. */
export type CoreCallable = (...flat: FlatValue[]) => unknown;

/** Makes the core callable of one instance. */
export type BoundImport = (cx: CanonContext) => CoreCallable;

/** Lowers a result: `pointer` is where core code wants it, unless it fits a flat value, which is returned. */
export type LowerResult = (
  cx: CanonContext,
  pointer: FlatValue | undefined,
  value: unknown,
) => FlatValue | undefined;

/** What a call of one imported function takes besides its parameters. */
export type CompiledCall = {
  readonly callee: Callee;
  readonly ok: LowerResult;
  /** Undefined for functions that do not return a `result`. */
  readonly err: LowerResult | undefined;
  readonly label: string;
};

/** A parameter that is a handle of a host object. */
export type HandleParam = { readonly kind: 'handle'; readonly resource: number; readonly owned: boolean };

/** What all calls of one import of one instance have in common: how they begin, succeed, wait and fail. */
export class ImportCall {
  readonly #cx: CanonContext;
  readonly #call: CompiledCall;
  readonly #suspends: boolean;
  readonly handles: HandleTable;
  /** The entries of the handles that the call under way borrows. */
  #borrowed: HandleEntry | readonly HandleEntry[] | undefined;

  constructor(cx: CanonContext, call: CompiledCall, suspends: boolean) {
    this.#cx = cx;
    this.#call = call;
    this.#suspends = suspends;
    this.handles = cx.state.handles;
  }

  /** To be called first. Returns the host function. */
  begin(): HostFunction {
    const { state } = this.#cx;
    state.checkLeave();
    if (state.phase !== 'done') {
      // V8 itself refuses this, save for an import that is the start function.
      if (this.#suspends && state.phase === 'core') throw waitsWhileStarting();
      state.startCalls.add(this.#call.label);
    }
    this.#cx.enter();
    this.#borrowed = undefined;
    return this.#call.callee(state);
  }

  /** Lifts a handle of the host's. */
  lift(value: number, { resource, owned }: HandleParam): unknown {
    if (owned) return this.handles.takeOwn(value, resource);
    const entry = this.handles.get(value, resource);
    this.#borrowed = entry;
    return entry.value;
  }

  /** Lifts a list of borrowed handles. */
  liftAll(cx: CanonContext, pointer: number, length: number, resource: number): unknown[] {
    if (length === 0) return [];
    cx.check(pointer, length * 4, 4);
    cx.charge(length * listItemCharge);
    const entries: HandleEntry[] = [];
    const values: unknown[] = [];
    for (let index = 0; index < length; index++) {
      const entry = this.handles.get(cx.view.getUint32(pointer + index * 4, true), resource);
      entries.push(entry);
      values.push(entry.value);
    }
    this.#borrowed = entries;
    return values;
  }

  /** What the host function returned goes back to the guest, at once unless it has to wait for it. */
  end(pointer: FlatValue | undefined, value: unknown): unknown {
    if (this.#suspends && value instanceof Promise) return this.#wait(pointer, value);
    return this.#succeed(pointer, value);
  }

  #succeed(pointer: FlatValue | undefined, value: unknown): FlatValue | undefined {
    const cx = this.#cx;
    try {
      cx.refresh();
      return this.#call.ok(cx, pointer, value);
    } catch (thrown) {
      // Whatever the guest's allocator throws is no error of the host function.
      throw cx.state.fail(thrown);
    }
  }

  /** An error of a `result` goes back to the guest, everything else ends it. */
  fail(pointer: FlatValue | undefined, thrown: unknown): FlatValue | undefined {
    const cx = this.#cx;
    const { err } = this.#call;
    try {
      if (err === undefined) throw thrown;
      const payload = payloadOf(thrown);
      cx.refresh();
      return err(cx, pointer, payload);
    } catch (failure) {
      throw cx.state.fail(failure);
    }
  }

  async #wait(pointer: FlatValue | undefined, promise: Promise<unknown>): Promise<unknown> {
    const borrowed = this.#borrowed ?? [];
    const lent = Array.isArray(borrowed) ? (borrowed as readonly HandleEntry[]) : [borrowed as HandleEntry];
    for (const entry of lent) entry.lends += 1;
    let value: unknown;
    try {
      value = await promise;
    } catch (thrown) {
      return this.fail(pointer, thrown);
    } finally {
      for (const entry of lent) entry.lends -= 1;
    }
    return this.#succeed(pointer, value);
  }
}

/** The guest's start-up code called a function that may wait, which needs an export call to suspend. */
export function waitsWhileStarting(cause?: unknown): ShimError {
  return new ShimError(
    'unsupported',
    'the guest calls a host function that may wait while it starts: let it do so when it is called',
    { cause },
  );
}

/** The payload of a `result`'s error: what was thrown, unless it is an Error, which ends the guest. */
export function payloadOf(thrown: unknown): unknown {
  if (typeof thrown === 'object' && thrown !== null && Object.hasOwn(thrown, 'payload'))
    return (thrown as { payload: unknown }).payload;
  if (thrown instanceof Error) throw thrown;
  return thrown;
}
