import type { BinaryReader } from './binary-reader.ts';
import {
  Frame,
  type InstanceItem,
  type Item,
  invalid,
  type ParseState,
  type TypeItem,
  unsupported,
} from './component-items.ts';
import { hostMemberOf, importKeyOf, isAsyncImport, isLabel } from './host-names.ts';
import type { ImportedFunction } from './plan.ts';
import type { FunctionType, Primitive, ValueType } from './value-type.ts';

const primitiveCodes: ReadonlyMap<number, Primitive> = new Map([
  [0x7f, 'bool'],
  [0x7e, 's8'],
  [0x7d, 'u8'],
  [0x7c, 's16'],
  [0x7b, 'u16'],
  [0x7a, 's32'],
  [0x79, 'u32'],
  [0x78, 's64'],
  [0x77, 'u64'],
  [0x76, 'f32'],
  [0x75, 'f64'],
  [0x74, 'char'],
  [0x73, 'string'],
]);

/** Flags one type may have; more are not part of the component model any longer. */
const maxFlags = 32;

/** Sorts of definitions at component level. */
export const sorts = { core: 0, function: 1, value: 2, type: 3, component: 4, instance: 5 } as const;

/** Reads one definition of a type section or of a declaration. */
export function readType(reader: BinaryReader, frame: Frame, state: ParseState): TypeItem {
  switch (reader.peek()) {
    case 0x3e:
    case 0x3f:
      throw unsupported('a resource type stands where only other types are known');
    case 0x40:
      reader.byte();
      return { kind: 'function', type: readFunctionType(reader, frame, state) };
    case 0x43:
      throw unsupported('it has async functions');
    case 0x41:
      reader.byte();
      skipDeclarations(reader, frame, state, true);
      return { kind: 'component' };
    case 0x42: {
      reader.byte();
      const start = reader.offset;
      skipDeclarations(reader, frame, state, false);
      return { kind: 'instance', start, end: reader.offset, frame };
    }
    default:
      return readDefinedType(reader, frame, state);
  }
}

function skipDeclarations(reader: BinaryReader, frame: Frame, state: ParseState, imports: boolean): void {
  const start = reader.offset;
  state.nested(0, () =>
    readDeclarations(reader, new Frame(frame), state, { imports, interfaceName: undefined }),
  );
  state.nested(reader.offset - start, () => {});
}

function readDefinedType(reader: BinaryReader, frame: Frame, state: ParseState): TypeItem {
  const code = reader.byte();
  const value = (type: ValueType): TypeItem => ({ kind: 'value', type: state.types.intern(type) });
  const part = (): number => readValueType(reader, frame, state);
  const optional = (): number | null => (readFlag(reader) ? part() : null);
  const primitive = primitiveCodes.get(code);
  if (primitive !== undefined) return value({ kind: primitive });
  switch (code) {
    case 0x72:
      return value({ kind: 'record', fields: many(reader, () => [readLabel(reader), part()] as const) });
    case 0x71:
      return value({
        kind: 'variant',
        cases: many(reader, () => {
          const name = readLabel(reader);
          const payload = optional();
          if (reader.byte() !== 0) throw unsupported('it has a variant case that refines another');
          return [name, payload] as const;
        }),
      });
    case 0x70:
      return value({ kind: 'list', element: part() });
    case 0x6f:
      return value({ kind: 'tuple', types: many(reader, part) });
    case 0x6e: {
      const names = many(reader, () => readLabel(reader));
      if (names.length > maxFlags) throw unsupported(`it has a type with more than ${maxFlags} flags`);
      return value({ kind: 'flags', names });
    }
    case 0x6d:
      return value({ kind: 'enum', names: many(reader, () => readLabel(reader)) });
    case 0x6b:
      return value({ kind: 'option', some: part() });
    case 0x6a:
      return value({ kind: 'result', ok: optional(), err: optional() });
    case 0x69:
      return value({ kind: 'own', resource: frame.resource(reader.u32()) });
    case 0x68:
      return value({ kind: 'borrow', resource: frame.resource(reader.u32()) });
    default:
      throw unsupported(`it has a type of kind 0x${code.toString(16)}`);
  }
}

/** A vector of at least one item. */
function many<T>(reader: BinaryReader, read: () => T): T[] {
  const count = reader.count();
  if (count === 0) throw invalid('a type is empty');
  const items: T[] = [];
  for (let index = 0; index < count; index++) items.push(read());
  return items;
}

/** The name of a field, case, flag or parameter: words joined by hyphens, so that it is safe as a property's name. */
function readLabel(reader: BinaryReader): string {
  const name = reader.name();
  if (!isLabel(name)) throw reader.invalid('a label is not made of words and hyphens');
  return name;
}

function readFlag(reader: BinaryReader): boolean {
  const flag = reader.byte();
  if (flag > 1) throw reader.invalid('an option is neither absent nor present');
  return flag === 1;
}

/** A primitive type or the index of a defined one. */
function readValueType(reader: BinaryReader, frame: Frame, state: ParseState): number {
  const code = reader.peek();
  if (code >= 0x40 && code < 0x80) {
    reader.byte();
    const kind = primitiveCodes.get(code);
    if (kind === undefined) throw unsupported(`it has a value type of kind 0x${code.toString(16)}`);
    return state.types.intern({ kind });
  }
  return frame.value(reader.u32());
}

function readFunctionType(reader: BinaryReader, frame: Frame, state: ParseState): FunctionType {
  const count = reader.count();
  const params: [string, number][] = [];
  for (let index = 0; index < count; index++)
    params.push([readLabel(reader), readValueType(reader, frame, state)]);
  const form = reader.byte();
  if (form === 0) return { params, result: readValueType(reader, frame, state) };
  if (form !== 1 || reader.byte() !== 0) throw unsupported('it has a function with several results');
  return { params, result: null };
}

/** What an import or export is said to be. */
export type ExternDescription =
  | { readonly kind: 'function'; readonly type: FunctionType }
  | { readonly kind: 'instance'; readonly type: TypeItem & { readonly kind: 'instance' } }
  | { readonly kind: 'component' | 'module' }
  | { readonly kind: 'equal'; readonly type: TypeItem }
  | { readonly kind: 'resource' };

export function readExternDescription(reader: BinaryReader, frame: Frame): ExternDescription {
  const kind = reader.byte();
  switch (kind) {
    case 0:
      if (reader.byte() !== 0x11) throw reader.invalid('an unknown kind of core import');
      reader.u32();
      return { kind: 'module' };
    case 1:
      return { kind: 'function', type: frame.functionType(reader.u32()) };
    case 3: {
      const bound = reader.byte();
      if (bound === 0) return { kind: 'equal', type: frame.type(reader.u32()) };
      if (bound === 1) return { kind: 'resource' };
      throw reader.invalid('an unknown type bound');
    }
    case 4:
      reader.u32();
      return { kind: 'component' };
    case 5: {
      const type = frame.type(reader.u32());
      if (type.kind !== 'instance') throw invalid('an instance is described by another type');
      return { kind: 'instance', type };
    }
    default:
      throw unsupported(`it imports or exports something of kind ${kind}`);
  }
}

/** The name of an import or export. */
export function readExternName(reader: BinaryReader): string {
  const form = reader.byte();
  if (form > 1) throw unsupported('it has a name with a version suffix of its own');
  return reader.name();
}

/** Reads an `alias outer` of a type. */
export function readOuterType(reader: BinaryReader, frame: Frame): TypeItem {
  let from: Frame = frame;
  for (let levels = reader.u32(); levels > 0; levels--) {
    if (from.parent === undefined) throw invalid('an alias points outside of the component');
    from = from.parent;
  }
  return from.type(reader.u32());
}

/** Reads the declarations of an instance type as those of an imported instance, whose resources become the host's. */
export function importInstance(
  reader: BinaryReader,
  type: TypeItem & { readonly kind: 'instance' },
  interfaceName: string,
  state: ParseState,
): InstanceItem {
  return state.nested(type.end - type.start, () => {
    const declarations = reader.at(type.start, type.end);
    const frame = new Frame(type.frame);
    return { exports: readDeclarations(declarations, frame, state, { imports: false, interfaceName }) };
  });
}

type Context = {
  /** Whether imports are allowed: in component types. */
  readonly imports: boolean;
  /** Set when the declarations are those of an import. */
  readonly interfaceName: string | undefined;
};

function readDeclarations(
  reader: BinaryReader,
  frame: Frame,
  state: ParseState,
  context: Context,
): ReadonlyMap<string, Item> {
  const exports = new Map<string, Item>();
  for (let left = reader.count(); left > 0; left--) {
    const kind = reader.byte();
    switch (kind) {
      case 1:
        frame.types.push(readType(reader, frame, state));
        break;
      case 2:
        frame.types.push(readTypeAlias(reader, frame));
        break;
      case 3:
        if (!context.imports) throw reader.invalid('an instance type has an import');
        readDeclared(reader, frame, state, context);
        break;
      case 4: {
        const [name, item] = readDeclared(reader, frame, state, context);
        if (item !== undefined) exports.set(name, item);
        break;
      }
      default:
        throw unsupported(`it has a type declaration of kind ${kind}`);
    }
  }
  return exports;
}

function readTypeAlias(reader: BinaryReader, frame: Frame): TypeItem {
  if (reader.byte() !== sorts.type) throw unsupported('a type has an alias of something that is no type');
  const form = reader.byte();
  if (form === 2) return readOuterType(reader, frame);
  if (form !== 0) throw reader.invalid('an alias of a type that points to a core instance');
  const instance = frame.instance(reader.u32());
  const name = reader.name();
  const item = instance.exports.get(name);
  if (item?.sort !== 'type') throw invalid(`no type "${name}" is exported`);
  return item.item;
}

/** One import or export of a type; what it defines takes the next index of its sort. */
function readDeclared(
  reader: BinaryReader,
  frame: Frame,
  state: ParseState,
  { interfaceName }: Context,
): [string, Item | undefined] {
  const name = readExternName(reader);
  const description = readExternDescription(reader, frame);
  switch (description.kind) {
    case 'function': {
      const item = {
        kind: 'imported' as const,
        function: importedFunction(interfaceName ?? '', name, description.type, state),
      };
      frame.functions.push(item);
      return [name, { sort: 'function', item }];
    }
    case 'equal':
      frame.types.push(description.type);
      return [name, { sort: 'type', item: description.type }];
    case 'resource': {
      const resource = state.addResource({ kind: 'imported', interfaceName: interfaceName ?? '', name });
      const item = { kind: 'resource' as const, resource };
      frame.types.push(item);
      return [name, { sort: 'type', item }];
    }
    case 'instance': {
      const item = importInstance(reader, description.type, interfaceName ?? '', state);
      frame.instances.push(item);
      return [name, { sort: 'instance', item }];
    }
    case 'component':
    case 'module':
      return [name, undefined];
    default:
      return description satisfies never;
  }
}

function importedFunction(
  interfaceName: string,
  name: string,
  type: FunctionType,
  state: ParseState,
): ImportedFunction {
  const member = hostMemberOf(name);
  if (member === undefined) throw unsupported(`it has a function with the name "${name}"`);
  if (member.kind === 'method') {
    const self = type.params[0];
    const selfType = self === undefined ? undefined : state.types.types[self[1]];
    if (selfType?.kind !== 'borrow') throw invalid(`the method "${name}" has no "self"`);
  }
  return {
    interfaceName,
    key: importKeyOf(interfaceName),
    name,
    member,
    type,
    suspends: isAsyncImport(state.asyncImports, interfaceName, name),
  };
}
