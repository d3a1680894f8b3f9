import type { BinaryReader } from './binary-reader.ts';
import {
  Frame,
  found,
  type InstanceItem,
  type Item,
  invalid,
  type ParseState,
  unsupported,
} from './component-items.ts';
import type {
  CanonOptions,
  CoreAlias,
  CoreFunctionPlan,
  CoreInstancePlan,
  CoreSort,
  ExportedFunction,
} from './plan.ts';
import { instantiateShim } from './shim-component.ts';
import {
  importInstance,
  readExternDescription,
  readExternName,
  readOuterType,
  readType,
  sorts,
} from './type-reader.ts';

/** Definitions of each index space of a component; real ones have a few hundred. */
const maxDefinitions = 100_000;

const coreSorts: readonly CoreSort[] = ['function', 'table', 'memory', 'global'];

const preamble = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];

/** Steps over the first bytes of a component. Throws `unsupported` when they are others. */
function readComponentPreamble(reader: BinaryReader): void {
  for (const byte of preamble) {
    if (reader.done || reader.byte() !== byte) throw unsupported('it does not begin as a component does');
  }
}

/** Reads the sections of a component into the definitions its link plan is made of. */
export class ComponentReader {
  /** Where the core modules lie. */
  readonly modules: { readonly start: number; readonly end: number }[] = [];
  readonly coreInstances: CoreInstancePlan[] = [];
  readonly coreFunctions: CoreFunctionPlan[] = [];
  readonly tables: CoreAlias[] = [];
  readonly memories: CoreAlias[] = [];
  readonly globals: CoreAlias[] = [];
  readonly imports = new Set<string>();
  readonly exports: [interfaceName: string, functions: ExportedFunction[]][] = [];
  readonly #frame = new Frame();
  readonly #state: ParseState;
  readonly #reader: BinaryReader;
  #definitions = 0;

  constructor(reader: BinaryReader, state: ParseState) {
    this.#reader = reader;
    this.#state = state;
  }

  /** Reads everything. Throws `invalid-component` and `unsupported`. */
  read(): void {
    const reader = this.#reader;
    readComponentPreamble(reader);
    while (!reader.done) {
      const id = reader.byte();
      const body = reader.section(reader.u32());
      const { offset: start, end } = body;
      switch (id) {
        case 0:
          break;
        case 1:
          this.#count();
          this.modules.push({ start, end });
          break;
        case 4:
          this.#count();
          readComponentPreamble(body);
          this.#frame.components.push({ start: body.offset, end, frame: this.#frame });
          break;
        default:
          for (let left = body.count(); left > 0; left--) {
            this.#count();
            this.#definition(id, body);
          }
          body.expectEnd();
      }
    }
  }

  #count(): void {
    this.#definitions += 1;
    if (this.#definitions > maxDefinitions)
      throw unsupported(`it has more than ${maxDefinitions} definitions`);
  }

  #definition(section: number, body: BinaryReader): void {
    switch (section) {
      case 2:
        this.coreInstances.push(this.#coreInstance(body));
        return;
      case 5:
        this.#frame.instances.push(this.#instance(body));
        return;
      case 6:
        this.#alias(body);
        return;
      case 7:
        this.#type(body);
        return;
      case 8:
        this.#canon(body);
        return;
      case 10:
        this.#import(body);
        return;
      case 11:
        this.#export(body);
        return;
      default:
        throw unsupported(`it has a section of kind ${section}`);
    }
  }

  #coreInstance(body: BinaryReader): CoreInstancePlan {
    const form = body.byte();
    if (form === 0) {
      const module = body.u32();
      found(this.modules[module], 'core module', module);
      const args: [string, number][] = [];
      for (let left = body.count(); left > 0; left--) {
        const name = body.name();
        if (body.byte() !== 0x12) throw body.invalid('a core module is given something that is no instance');
        args.push([name, this.#coreIndex(body.u32())]);
      }
      return { kind: 'instantiate', module, args };
    }
    if (form !== 1) throw body.invalid('an unknown kind of core instance');
    const exports: [string, CoreSort, number][] = [];
    for (let left = body.count(); left > 0; left--) {
      const name = body.name();
      const sort = coreSorts[body.byte()];
      if (sort === undefined) throw unsupported('it passes on core items other than functions and state');
      const index = body.u32();
      found(this.#coreSpace(sort)[index], `core ${sort}`, index);
      exports.push([name, sort, index]);
    }
    return { kind: 'exports', exports };
  }

  #coreIndex(index: number): number {
    found(this.coreInstances[index], 'core instance', index);
    return index;
  }

  #coreSpace(sort: CoreSort): readonly unknown[] {
    switch (sort) {
      case 'function':
        return this.coreFunctions;
      case 'table':
        return this.tables;
      case 'memory':
        return this.memories;
      case 'global':
        return this.globals;
      default:
        return sort satisfies never;
    }
  }

  #instance(body: BinaryReader): InstanceItem {
    const form = body.byte();
    if (form !== 0 && form !== 1) throw body.invalid('an unknown kind of instance');
    const component = form === 0 ? this.#frame.component(body.u32()) : undefined;
    const items = new Map<string, Item>();
    for (let left = body.count(); left > 0; left--) {
      const name = component === undefined ? readExternName(body) : body.name();
      items.set(name, this.#item(body));
    }
    return component === undefined
      ? { exports: items }
      : instantiateShim(this.#reader, component, items, this.#state);
  }

  #item(body: BinaryReader): Item {
    const sort = body.byte();
    const index = body.u32();
    switch (sort) {
      case sorts.function:
        return { sort: 'function', item: this.#frame.function(index) };
      case sorts.type:
        return { sort: 'type', item: this.#frame.type(index) };
      case sorts.instance:
        return { sort: 'instance', item: this.#frame.instance(index) };
      default:
        throw unsupported('it passes on components or modules');
    }
  }

  #define(item: Item): void {
    switch (item.sort) {
      case 'function':
        this.#frame.functions.push(item.item);
        return;
      case 'type':
        this.#frame.types.push(item.item);
        return;
      case 'instance':
        this.#frame.instances.push(item.item);
        return;
      default:
        item satisfies never;
    }
  }

  #alias(body: BinaryReader): void {
    const sort = body.byte();
    const coreSort = sort === sorts.core ? coreSorts[body.byte()] : undefined;
    const form = body.byte();
    if (form === 2) {
      if (sort !== sorts.type) throw unsupported('it has an outer alias of something that is no type');
      this.#frame.types.push(readOuterType(body, this.#frame));
      return;
    }
    if (form === 1) {
      const alias = { instance: this.#coreIndex(body.u32()), name: body.name() };
      switch (coreSort) {
        case 'function':
          this.coreFunctions.push({ kind: 'alias', ...alias });
          return;
        case 'table':
          this.tables.push(alias);
          return;
        case 'memory':
          this.memories.push(alias);
          return;
        case 'global':
          this.globals.push(alias);
          return;
        case undefined:
          throw unsupported('it has an alias of a core item that is neither function nor state');
        default:
          coreSort satisfies never;
      }
    }
    if (form !== 0) throw body.invalid('an unknown kind of alias');
    const instance = this.#frame.instance(body.u32());
    const name = body.name();
    const item = instance.exports.get(name);
    const wanted = sort === sorts.function ? 'function' : sort === sorts.type ? 'type' : 'instance';
    if (item === undefined || item.sort !== wanted) throw invalid(`no ${wanted} "${name}" is exported`);
    this.#define(item);
  }

  #type(body: BinaryReader): void {
    if (body.peek() !== 0x3f) {
      this.#frame.types.push(readType(body, this.#frame, this.#state));
      return;
    }
    body.byte();
    if (body.byte() !== 0x7f) throw unsupported('it has a resource that is not represented by an i32');
    const hasDestructor = body.byte();
    if (hasDestructor > 1) throw body.invalid('an option is neither absent nor present');
    const destructor = hasDestructor === 1 ? this.#coreFunctionIndex(body) : null;
    const resource = this.#state.addResource({ kind: 'own', destructor });
    this.#frame.types.push({ kind: 'resource', resource });
  }

  #coreFunctionIndex(body: BinaryReader): number {
    const index = body.u32();
    found(this.coreFunctions[index], 'core function', index);
    return index;
  }

  #canon(body: BinaryReader): void {
    const kind = body.byte();
    switch (kind) {
      case 0: {
        if (body.byte() !== 0) throw body.invalid('an unknown kind of lift');
        const coreFunction = this.#coreFunctionIndex(body);
        const options = this.#options(body);
        const type = this.#frame.functionType(body.u32());
        this.#frame.functions.push({ kind: 'lifted', coreFunction, type, options });
        return;
      }
      case 1: {
        if (body.byte() !== 0) throw body.invalid('an unknown kind of lower');
        const item = this.#frame.function(body.u32());
        if (item.kind !== 'imported')
          throw unsupported('it calls its own exports through the component model');
        const options = this.#options(body);
        this.coreFunctions.push({ kind: 'lower', function: item.function, options });
        return;
      }
      case 2:
      case 3:
      case 4: {
        const resource = this.#frame.resource(body.u32());
        const named = (['resource.new', 'resource.drop', 'resource.rep'] as const)[kind - 2];
        if (named === undefined) throw body.invalid('an unknown canonical function');
        if (kind !== 3 && this.#state.resources[resource]?.kind !== 'own')
          throw invalid(`"${named}" of a resource that is not its own`);
        this.coreFunctions.push({ kind: named, resource });
        return;
      }
      default:
        throw unsupported(`it uses canonical function 0x${kind.toString(16)}`);
    }
  }

  #options(body: BinaryReader): CanonOptions {
    let memory: number | null = null;
    let realloc: number | null = null;
    let postReturn: number | null = null;
    for (let left = body.count(); left > 0; left--) {
      const option = body.byte();
      switch (option) {
        case 0:
          break;
        case 1:
        case 2:
          throw unsupported('it has strings that are not UTF-8');
        case 3:
          memory = body.u32();
          found(this.memories[memory], 'core memory', memory);
          break;
        case 4:
          realloc = this.#coreFunctionIndex(body);
          break;
        case 5:
          postReturn = this.#coreFunctionIndex(body);
          break;
        default:
          throw unsupported(`it uses canonical option 0x${option.toString(16)}`);
      }
    }
    return { memory, realloc, postReturn };
  }

  #import(body: BinaryReader): void {
    const name = readExternName(body);
    const description = readExternDescription(body, this.#frame);
    switch (description.kind) {
      case 'instance': {
        const instance = importInstance(this.#reader, description.type, name, this.#state);
        this.#frame.instances.push(instance);
        this.imports.add(name);
        return;
      }
      case 'equal':
        this.#frame.types.push(description.type);
        return;
      default:
        throw unsupported(`it imports the ${description.kind} "${name}" outside of an interface`);
    }
  }

  #export(body: BinaryReader): void {
    const name = readExternName(body);
    const item = this.#item(body);
    const described = body.byte();
    if (described > 1) throw body.invalid('an option is neither absent nor present');
    if (described === 1) readExternDescription(body, this.#frame);
    this.#define(item);
    switch (item.sort) {
      case 'function':
        this.#exported('').push(exportedFunction(name, item));
        return;
      case 'instance': {
        const functions = this.#exported(name);
        for (const [member, inner] of item.item.exports) {
          if (inner.sort === 'function') functions.push(exportedFunction(member, inner));
          if (inner.sort === 'instance') throw unsupported('it exports instances inside of instances');
        }
        return;
      }
      case 'type':
        return;
      default:
        item satisfies never;
    }
  }

  #exported(interfaceName: string): ExportedFunction[] {
    const known = this.exports.find(([name]) => name === interfaceName);
    if (known !== undefined) return known[1];
    const functions: ExportedFunction[] = [];
    this.exports.push([interfaceName, functions]);
    return functions;
  }
}

function exportedFunction(name: string, { item }: Item & { readonly sort: 'function' }): ExportedFunction {
  if (item.kind !== 'lifted') throw unsupported(`it exports the imported function "${name}"`);
  const { coreFunction, type, options } = item;
  return { name, coreFunction, type, options };
}
