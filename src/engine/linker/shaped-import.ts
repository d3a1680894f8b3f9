import type { CanonContext } from './canon-context.ts';
import { FlatCodecs, type FlatValue } from './flat-codec.ts';
import {
  type BoundImport,
  type CompiledCall,
  type CoreCallable,
  type HandleParam,
  ImportCall,
} from './import-call.ts';
import type { MemoryCodecs } from './memory-codec.ts';
import type { ImportedFunction } from './plan.ts';
import { loadString } from './strings.ts';
import { trap } from './trap.ts';

/**
 * Host functions whose parameters have one of a few shapes, lifted by hand: fixed parameters in place of lists of flat
 * values, and no promise where nothing has to wait. Almost everything that wasi:http, wasi:io and wasi:clocks have is
 * of these shapes. They do what `compileImport` does for all others, and the tests run the same cases both ways.
 */
export function compileShaped(
  imported: ImportedFunction,
  codecs: MemoryCodecs,
  call: CompiledCall,
): BoundImport | undefined {
  const { params, result } = imported.type;
  const shapes = params.map(([, type]) => paramOf(type, codecs));
  const [, outcome] = params;
  const template =
    params.length === 2 && outcome !== undefined && result === null && shapes[1] === undefined
      ? handleAndOutcome(shapes[0], outcome[1], codecs)
      : templateOf(shapes);
  if (template === undefined) return undefined;
  return (cx) => {
    const callable = template(cx, new ImportCall(cx, call, imported.suspends));
    return imported.suspends
      ? (new WebAssembly.Suspending(callable as (...args: never[]) => unknown) as unknown as CoreCallable)
      : callable;
  };
}

type Load = (cx: CanonContext, pointer: number, length: number) => unknown;

/** A parameter that can be lifted by hand. */
type Param =
  | HandleParam
  | { readonly kind: 'scalar'; readonly fit: (value: FlatValue) => unknown }
  /** A pointer and a length. */
  | { readonly kind: 'pair'; readonly load: Load }
  | { readonly kind: 'optional-handle'; readonly resource: number }
  /** A list of borrowed handles. */
  | { readonly kind: 'handles'; readonly resource: number };

function paramOf(index: number, codecs: MemoryCodecs): Param | undefined {
  const type = codecs.layouts.type(index);
  switch (type.kind) {
    case 'own':
    case 'borrow':
      return codecs.isHosts(type.resource)
        ? { kind: 'handle', resource: type.resource, owned: type.kind === 'own' }
        : undefined;
    case 'bool':
      return { kind: 'scalar', fit: (value) => value !== 0 };
    case 'u8':
      return { kind: 'scalar', fit: (value) => (value as number) & 0xff };
    case 'u16':
      return { kind: 'scalar', fit: (value) => (value as number) & 0xffff };
    case 'u32':
      return { kind: 'scalar', fit: (value) => (value as number) >>> 0 };
    case 'u64':
      return { kind: 'scalar', fit: (value) => BigInt.asUintN(64, value as bigint) };
    case 'string':
      return { kind: 'pair', load: loadString };
    case 'list': {
      const element = codecs.layouts.type(type.element);
      if (element.kind === 'borrow')
        return codecs.isHosts(element.resource) ? { kind: 'handles', resource: element.resource } : undefined;
      return { kind: 'pair', load: codecs.list(type.element).load };
    }
    case 'option': {
      const some = paramOf(type.some, codecs);
      return some?.kind === 'handle' && some.owned
        ? { kind: 'optional-handle', resource: some.resource }
        : undefined;
    }
    default:
      return undefined;
  }
}

type Template = (cx: CanonContext, call: ImportCall) => CoreCallable;

function templateOf(params: readonly (Param | undefined)[]): Template | undefined {
  const [first, second, third] = params;
  if (params.length === 0) return nothing;
  if (first === undefined) return undefined;
  if (params.length === 1) {
    if (first.kind === 'handle') return handle(first);
    if (first.kind === 'scalar') return scalar(first.fit);
    if (first.kind === 'handles') return handles(first.resource);
    return first.kind === 'pair' ? pair(first.load) : undefined;
  }
  if (first.kind !== 'handle' || second === undefined) return undefined;
  if (params.length === 2) {
    if (second.kind === 'scalar') return handleAndScalar(first, second.fit);
    if (second.kind === 'pair') return handleAndPair(first, second.load);
    return second.kind === 'optional-handle' ? handleAndOptional(first, second.resource) : undefined;
  }
  return params.length === 3 && second.kind === 'pair' && third?.kind === 'pair'
    ? handleAndPairs(first, second.load, third.load)
    : undefined;
}

const nothing: Template = (_cx, call) => (pointer) => {
  try {
    return call.end(pointer, call.begin().call(undefined));
  } catch (thrown) {
    return call.fail(pointer, thrown);
  }
};

function handle(first: HandleParam): Template {
  return (_cx, call) => (self, pointer) => {
    try {
      const target = call.begin();
      return call.end(pointer, target.call(call.lift(self as number, first)));
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function scalar(fit: (value: FlatValue) => unknown): Template {
  return (_cx, call) => (value, pointer) => {
    try {
      return call.end(pointer, call.begin().call(fit(value as FlatValue)));
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function pair(load: Load): Template {
  return (cx, call) => (start, length, pointer) => {
    try {
      const target = call.begin();
      return call.end(pointer, target.call(load(cx, (start as number) >>> 0, (length as number) >>> 0)));
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function handles(resource: number): Template {
  return (cx, call) => (start, length, pointer) => {
    try {
      const target = call.begin();
      return call.end(
        pointer,
        target.call(call.liftAll(cx, (start as number) >>> 0, (length as number) >>> 0, resource)),
      );
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function handleAndScalar(first: HandleParam, fit: (value: FlatValue) => unknown): Template {
  return (_cx, call) => (self, value, pointer) => {
    try {
      const target = call.begin();
      return call.end(pointer, target.call(call.lift(self as number, first), fit(value as FlatValue)));
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function handleAndPair(first: HandleParam, load: Load): Template {
  return (cx, call) => (self, start, length, pointer) => {
    try {
      const target = call.begin();
      const object = call.lift(self as number, first);
      return call.end(
        pointer,
        target.call(object, load(cx, (start as number) >>> 0, (length as number) >>> 0)),
      );
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function handleAndPairs(first: HandleParam, load: Load, loadNext: Load): Template {
  return (cx, call) => (self, start, length, nextStart, nextLength, pointer) => {
    try {
      const target = call.begin();
      const object = call.lift(self as number, first);
      const value = load(cx, (start as number) >>> 0, (length as number) >>> 0);
      const next = loadNext(cx, (nextStart as number) >>> 0, (nextLength as number) >>> 0);
      return call.end(pointer, target.call(object, value, next));
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

function handleAndOptional(first: HandleParam, resource: number): Template {
  return (_cx, call) => (self, given, value, pointer) => {
    try {
      const target = call.begin();
      const object = call.lift(self as number, first);
      if ((given as number) >>> 0 > 1) trap(`a variant has no case ${(given as number) >>> 0}`);
      const optional = given === 0 ? undefined : call.handles.takeOwn(value as number, resource);
      return call.end(pointer, target.call(object, optional));
    } catch (thrown) {
      return call.fail(pointer, thrown);
    }
  };
}

/** An owned handle, and a `result` whose good case is another: how a guest answers. Its error is lifted by its codec. */
function handleAndOutcome(
  first: Param | undefined,
  outcome: number,
  codecs: MemoryCodecs,
): Template | undefined {
  const { layouts } = codecs;
  const type = layouts.type(outcome);
  if (first?.kind !== 'handle' || type.kind !== 'result' || type.ok === null) return undefined;
  const good = paramOf(type.ok, codecs);
  const flat = layouts.flat(outcome);
  if (good?.kind !== 'handle' || !good.owned || flat?.[1] !== 'i32') return undefined;
  const { lift } = new FlatCodecs(codecs, flat).of(outcome, 0);
  return (cx, call) =>
    (self, discriminant, value, ...rest) => {
      try {
        const target = call.begin();
        const object = call.lift(self as number, first);
        const answer =
          discriminant === 0
            ? { tag: 'ok', val: call.handles.takeOwn(value as number, good.resource) }
            : lift(cx, [discriminant, value, ...rest] as FlatValue[]);
        return call.end(undefined, target.call(object, answer));
      } catch (thrown) {
        return call.fail(undefined, thrown);
      }
    };
}
