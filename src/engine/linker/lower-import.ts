import { ShimError } from '../../error.ts';
import type { CanonContext } from './canon-context.ts';
import { FlatCodecs, type FlatValue, type LiftFlat, zeroes } from './flat-codec.ts';
import type { HandleEntry } from './handle-table.ts';
import type { HostLinks } from './host-links.ts';
import type { FlatType } from './layout.ts';
import { type MemoryCodec, type MemoryCodecs, storeDiscriminant } from './memory-codec.ts';
import type { ImportedFunction } from './plan.ts';
import type { FunctionType } from './value-type.ts';

/** A host function as core code calls it. */
export type CoreCallable = (...flat: FlatValue[]) => unknown;

/** Makes the core callable of one instance. */
export type BoundImport = (cx: CanonContext) => CoreCallable;

type LowerResult = (cx: CanonContext, flat: readonly FlatValue[], value: unknown) => FlatValue | undefined;

/**
 * Compiles a host function into what core code calls (canonical ABI, `canon lower`): parameters lifted, the host object
 * called, its result lowered. Whatever fails marks the instance dead and unwinds the guest.
 */
export function compileImport(
  imported: ImportedFunction,
  codecs: MemoryCodecs,
  links: HostLinks,
): BoundImport {
  const lift = compileParams(imported.type, codecs);
  const { ok, err } = compileResult(imported.type, codecs);
  const call = links.caller(imported);
  const label = `${imported.interfaceName}#${imported.name}`;
  const failed = (cx: CanonContext, flat: readonly FlatValue[], thrown: unknown): FlatValue | undefined => {
    if (err === undefined) throw thrown;
    cx.refresh();
    return err(cx, flat, payloadOf(thrown));
  };
  if (!imported.suspends) {
    return (cx) => {
      const { state } = cx;
      return (...flat) => {
        try {
          state.checkLeave();
          if (state.phase !== 'done') state.startCalls.add(label);
          cx.enter();
          const args = lift(cx, flat);
          let value: unknown;
          try {
            value = call(state, args);
          } catch (thrown) {
            return failed(cx, flat, thrown);
          }
          cx.refresh();
          return ok(cx, flat, value);
        } catch (thrown) {
          throw state.fail(thrown);
        }
      };
    };
  }
  return (cx) => {
    const { state } = cx;
    const suspending = async (...flat: FlatValue[]): Promise<FlatValue | undefined> => {
      const lent: HandleEntry[] = [];
      try {
        state.checkLeave();
        cx.enter();
        cx.lent = lent;
        const args = lift(cx, flat);
        cx.lent = undefined;
        let value: unknown;
        try {
          value = await call(state, args);
        } catch (thrown) {
          return failed(cx, flat, thrown);
        }
        cx.refresh();
        return ok(cx, flat, value);
      } catch (thrown) {
        throw state.fail(thrown);
      } finally {
        cx.lent = undefined;
        for (const entry of lent) entry.lends -= 1;
      }
    };
    const callable: CoreCallable = (...flat) => {
      // V8 itself refuses this, save for an import that is the start function.
      if (state.phase === 'core') throw state.fail(waitsWhileStarting());
      if (state.phase !== 'done') state.startCalls.add(label);
      return suspending(...flat);
    };
    return new WebAssembly.Suspending(callable as (...args: never[]) => unknown) as unknown as CoreCallable;
  };
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
function payloadOf(thrown: unknown): unknown {
  if (typeof thrown === 'object' && thrown !== null && Object.hasOwn(thrown, 'payload'))
    return (thrown as { payload: unknown }).payload;
  if (thrown instanceof Error) throw thrown;
  return thrown;
}

function compileParams(
  { params }: FunctionType,
  codecs: MemoryCodecs,
): (cx: CanonContext, flat: readonly FlatValue[]) => unknown[] {
  const types = params.map(([, type]) => type);
  const flatTypes = codecs.layouts.flatSequence(types);
  if (flatTypes === undefined) {
    const spilled = codecs.sequence(types);
    return (cx, flat) => {
      const pointer = (flat[0] as number) >>> 0;
      cx.check(pointer, spilled.size, spilled.align);
      return spilled.load(cx, pointer) as unknown[];
    };
  }
  const lifts: LiftFlat[] = new FlatCodecs(codecs, flatTypes).sequence(types, 0).map((codec) => codec.lift);
  return (cx, flat) => {
    const args: unknown[] = [];
    for (let index = 0; index < lifts.length; index++) args.push(lifts[index]?.(cx, flat));
    return args;
  };
}

/** How a result goes back, and for functions that return a `result` how an error does. */
function compileResult(
  type: FunctionType,
  codecs: MemoryCodecs,
): { readonly ok: LowerResult; readonly err: LowerResult | undefined } {
  const { layouts } = codecs;
  if (type.result === null) return { ok: () => undefined, err: undefined };
  const resultType = layouts.type(type.result);
  const { params, result } = layouts.signature(type);
  const pointerPlace = params === undefined ? 1 : params.length;
  if (resultType.kind === 'result') {
    if (result !== undefined) return { ok: () => 0, err: () => 1 };
    const { size, align, payloadOffset } = layouts.variant([resultType.ok, resultType.err]);
    const lower = (index: 0 | 1, part: number | null): LowerResult => {
      const payload: MemoryCodec | undefined = part === null ? undefined : codecs.of(part);
      return (cx, flat, value) => {
        const pointer = (flat[pointerPlace] as number) >>> 0;
        cx.check(pointer, size, align);
        storeDiscriminant(cx, pointer, 1, index);
        payload?.store(cx, pointer + payloadOffset, value);
        return undefined;
      };
    };
    return { ok: lower(0, resultType.ok), err: lower(1, resultType.err) };
  }
  return { ok: compileValue(type.result, result, pointerPlace, codecs), err: undefined };
}

function compileValue(
  type: number,
  flatResult: readonly FlatType[] | undefined,
  pointerPlace: number,
  codecs: MemoryCodecs,
): LowerResult {
  if (flatResult !== undefined) {
    const { lower } = new FlatCodecs(codecs, flatResult).of(type, 0);
    return (cx, _flat, value) => {
      const out = zeroes(flatResult);
      lower(cx, value, out);
      return out[0];
    };
  }
  const { size, align, store } = codecs.of(type);
  return (cx, flat, value) => {
    const pointer = (flat[pointerPlace] as number) >>> 0;
    cx.check(pointer, size, align);
    store(cx, pointer, value);
    return undefined;
  };
}
