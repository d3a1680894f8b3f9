import type { BinaryReader } from './binary-reader.ts';
import {
  Frame,
  type InstanceItem,
  type Item,
  invalid,
  type NestedComponent,
  type ParseState,
  unsupported,
} from './component-items.ts';
import { readExternDescription, readExternName, readOuterType, readType, sorts } from './type-reader.ts';

const section = { custom: 0, alias: 6, type: 7, import: 10, export: 11 } as const;

const known: ReadonlySet<number> = new Set(Object.values(section));

/**
 * Instantiates a nested component of the kind that wit-component makes for an exported interface: it imports functions
 * and types and exports them again under other names. Throws `unsupported` for any component that does more.
 */
export function instantiateShim(
  reader: BinaryReader,
  nested: NestedComponent,
  args: ReadonlyMap<string, Item>,
  state: ParseState,
): InstanceItem {
  return state.nested(nested.end - nested.start, () => {
    const exports = new Map<string, Item>();
    const frame = new Frame(nested.frame);
    const contents = reader.at(nested.start, nested.end);
    while (!contents.done) {
      const id = contents.byte();
      const body = contents.section(contents.u32());
      if (id === section.custom) continue;
      if (!known.has(id)) throw unsupported('it is composed of several components');
      for (let left = body.count(); left > 0; left--) {
        switch (id) {
          case section.type:
            frame.types.push(readType(body, frame, state));
            break;
          case section.alias:
            readAlias(body, frame);
            break;
          case section.import:
            readImport(body, frame, args);
            break;
          case section.export:
            readExport(body, frame, exports);
            break;
          default:
            throw unsupported('it is composed of several components');
        }
      }
      body.expectEnd();
    }
    return { exports };
  });
}

function readAlias(body: BinaryReader, frame: Frame): void {
  if (body.byte() !== sorts.type || body.byte() !== 2) {
    throw unsupported('it is composed of components that take others apart');
  }
  frame.types.push(readOuterType(body, frame));
}

function readImport(body: BinaryReader, frame: Frame, args: ReadonlyMap<string, Item>): void {
  const name = readExternName(body);
  const { kind } = readExternDescription(body, frame);
  const item = args.get(name);
  switch (kind) {
    case 'function':
      if (item?.sort !== 'function') throw invalid(`a component is not given the function "${name}"`);
      frame.functions.push(item.item);
      return;
    case 'equal':
    case 'resource':
      if (item?.sort !== 'type') throw invalid(`a component is not given the type "${name}"`);
      frame.types.push(item.item);
      return;
    default:
      throw unsupported(`it is composed of components that import a ${kind}`);
  }
}

function readExport(body: BinaryReader, frame: Frame, exports: Map<string, Item>): void {
  const name = readExternName(body);
  const sort = body.byte();
  const index = body.u32();
  // The description only renames types; the things themselves stay what they are.
  const described = body.byte();
  if (described > 1) throw body.invalid('an option is neither absent nor present');
  if (described === 1) readExternDescription(body, frame);
  switch (sort) {
    case sorts.function: {
      const item = frame.function(index);
      frame.functions.push(item);
      exports.set(name, { sort: 'function', item });
      return;
    }
    case sorts.type: {
      const item = frame.type(index);
      frame.types.push(item);
      exports.set(name, { sort: 'type', item });
      return;
    }
    default:
      throw unsupported('it is composed of components that export more than functions and types');
  }
}
