import type { CanonContext } from './canon-context.ts';
import { FlatCodecs, type FlatValue, zeroes } from './flat-codec.ts';
import type { MemoryCodecs } from './memory-codec.ts';
import type { ExportedFunction } from './plan.ts';
import { hostMismatch, trap } from './trap.ts';

/** Thrown when an exported function returns the error of its `result`; the guest is well. */
export class ResultError extends Error {
  override readonly name = 'ResultError';
  readonly payload: unknown;

  constructor(payload: unknown) {
    super('the guest returned an error');
    this.payload = payload;
  }
}

/** An export of one instance, ready to be called. */
export type BoundExport = (args: readonly unknown[]) => Promise<unknown>;

/** Makes the export of one instance out of its core function. */
export type CompiledExport = (
  cx: CanonContext,
  core: (...flat: FlatValue[]) => Promise<unknown>,
  postReturn: ((...flat: FlatValue[]) => unknown) | undefined,
) => BoundExport;

/** Compiles an exported function (canonical ABI, `canon lift`). One call at a time is the caller's business. */
export function compileExport({ name, type }: ExportedFunction, codecs: MemoryCodecs): CompiledExport {
  const types = type.params.map(([, part]) => part);
  const lower = compileArguments(types, codecs);
  const lift = compileReturned(type.result, codecs);
  const isResult = type.result !== null && codecs.layouts.type(type.result).kind === 'result';
  return (cx, core, postReturn) => {
    const { state } = cx;
    // One call at a time, so that all of them share what follows the guest's return.
    const returned = (flat: unknown): unknown => {
      let value: unknown;
      try {
        if (state.dead !== undefined) throw state.dead;
        cx.enter();
        value = lift(cx, flat as FlatValue | undefined);
        if (postReturn !== undefined) {
          state.mayLeave = false;
          if (flat === undefined) postReturn();
          else postReturn(flat as FlatValue);
          state.mayLeave = true;
        }
        const borrows = state.call?.borrows ?? 0;
        if (borrows !== 0) trap(`"${name}" returned and kept ${borrows} borrowed handles`);
      } catch (thrown) {
        return failed(thrown);
      }
      state.call = undefined;
      if (!isResult) return value;
      const { tag, val } = value as { tag: 'ok' | 'err'; val: unknown };
      if (tag === 'err') throw new ResultError(val);
      return val;
    };
    const failed = (thrown: unknown): never => {
      state.fail(thrown);
      state.call = undefined;
      throw thrown;
    };
    const begin = (args: readonly unknown[]): Promise<unknown> => {
      state.call = { borrows: 0 };
      try {
        cx.enter();
        return core(...lower(cx, args));
      } catch (thrown) {
        return failed(thrown);
      }
    };
    return (args) => {
      try {
        if (args.length !== types.length) hostMismatch(`${types.length} arguments of "${name}"`, args);
        return begin(args).then(returned, failed);
      } catch (thrown) {
        return Promise.reject(thrown);
      }
    };
  };
}

function compileArguments(
  types: readonly number[],
  codecs: MemoryCodecs,
): (cx: CanonContext, args: readonly unknown[]) => FlatValue[] {
  const flatTypes = codecs.layouts.flatSequence(types);
  if (flatTypes === undefined) {
    const spilled = codecs.sequence(types);
    return (cx, args) => {
      const pointer = cx.allocate(spilled.size, spilled.align);
      spilled.store(cx, pointer, args);
      return [pointer];
    };
  }
  const parts = new FlatCodecs(codecs, flatTypes).sequence(types, 0);
  return (cx, args) => {
    const flat = zeroes(flatTypes);
    for (let index = 0; index < parts.length; index++) parts[index]?.lower(cx, args[index], flat);
    return flat;
  };
}

function compileReturned(
  type: number | null,
  codecs: MemoryCodecs,
): (cx: CanonContext, returned: FlatValue | undefined) => unknown {
  if (type === null) return () => undefined;
  const { result } = codecs.layouts.signature({ params: [], result: type });
  if (result !== undefined) {
    const { lift } = new FlatCodecs(codecs, result).of(type, 0);
    return (cx, returned) => lift(cx, returned === undefined ? [] : [returned]);
  }
  const { size, align, load } = codecs.of(type);
  return (cx, returned) => {
    const pointer = (returned as number) >>> 0;
    cx.check(pointer, size, align);
    return load(cx, pointer);
  };
}
