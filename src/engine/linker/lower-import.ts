import type { CanonContext } from './canon-context.ts';
import { FlatCodecs, type FlatValue, type LiftFlat, zeroes } from './flat-codec.ts';
import type { HandleEntry } from './handle-table.ts';
import type { HostLinks } from './host-links.ts';
import {
  type BoundImport,
  type CoreCallable,
  type LowerResult,
  payloadOf,
  waitsWhileStarting,
} from './import-call.ts';
import type { InstanceState } from './instance-state.ts';
import type { FlatType } from './layout.ts';
import { type MemoryCodec, type MemoryCodecs, storeDiscriminant } from './memory-codec.ts';
import type { ImportedFunction } from './plan.ts';
import { compileShaped } from './shaped-import.ts';
import type { FunctionType } from './value-type.ts';

/**
 * Compiles a host function into what core code calls (canonical ABI, `canon lower`): parameters lifted, the host object
 * called, its result lowered. Whatever fails marks the instance dead and unwinds the guest. Common shapes of parameters
 * are lifted by hand, all others, and with `onlyGeneric` everything, by the codecs of their types.
 */
export function compileImport(
  imported: ImportedFunction,
  codecs: MemoryCodecs,
  links: HostLinks,
  onlyGeneric = false,
): BoundImport {
  const { ok, err, pointerPlace } = compileResult(imported.type, codecs);
  const label = `${imported.interfaceName}#${imported.name}`;
  const callee = links.callee(imported);
  const shaped = onlyGeneric ? undefined : compileShaped(imported, codecs, { callee, ok, err, label });
  if (shaped !== undefined) return shaped;
  const lift = compileParams(imported.type, codecs);
  const call = (state: InstanceState, args: unknown[]): unknown => {
    const [first, ...rest] = args;
    return callee(state).apply(first, rest);
  };
  const failed = (cx: CanonContext, flat: readonly FlatValue[], thrown: unknown): FlatValue | undefined => {
    if (err === undefined) throw thrown;
    cx.refresh();
    return err(cx, flat[pointerPlace], payloadOf(thrown));
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
          return ok(cx, flat[pointerPlace], value);
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
        return ok(cx, flat[pointerPlace], value);
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
): {
  readonly ok: LowerResult;
  readonly err: LowerResult | undefined;
  /** Place of the result's pointer among the flat parameters. */
  readonly pointerPlace: number;
} {
  const { layouts } = codecs;
  if (type.result === null) return { ok: () => undefined, err: undefined, pointerPlace: 0 };
  const resultType = layouts.type(type.result);
  const { params, result } = layouts.signature(type);
  const pointerPlace = params === undefined ? 1 : params.length;
  if (resultType.kind === 'result') {
    if (result !== undefined) return { ok: () => 0, err: () => 1, pointerPlace };
    const { size, align, payloadOffset } = layouts.variant([resultType.ok, resultType.err]);
    const lower = (index: 0 | 1, part: number | null): LowerResult => {
      const payload: MemoryCodec | undefined = part === null ? undefined : codecs.of(part);
      return (cx, given, value) => {
        const pointer = (given as number) >>> 0;
        cx.check(pointer, size, align);
        storeDiscriminant(cx, pointer, 1, index);
        payload?.store(cx, pointer + payloadOffset, value);
        return undefined;
      };
    };
    return { ok: lower(0, resultType.ok), err: lower(1, resultType.err), pointerPlace };
  }
  return { ok: compileValue(type.result, result, codecs), err: undefined, pointerPlace };
}

function compileValue(
  type: number,
  flatResult: readonly FlatType[] | undefined,
  codecs: MemoryCodecs,
): LowerResult {
  if (flatResult !== undefined) {
    const { lower } = new FlatCodecs(codecs, flatResult).of(type, 0);
    // One flat value at most, and lowering it calls nobody: all calls can share its place.
    const out = zeroes(flatResult);
    return (cx, _pointer, value) => {
      lower(cx, value, out);
      return out[0];
    };
  }
  const { size, align, store } = codecs.of(type);
  return (cx, given, value) => {
    const pointer = (given as number) >>> 0;
    cx.check(pointer, size, align);
    store(cx, pointer, value);
    return undefined;
  };
}
