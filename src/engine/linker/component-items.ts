import { ShimError } from '../../error.ts';
import type { CanonOptions, ImportedFunction, ResourcePlan } from './plan.ts';
import { type FunctionType, TypeTable } from './value-type.ts';

/** What stands in a type index space. */
export type TypeItem =
  | { readonly kind: 'value'; readonly type: number }
  | { readonly kind: 'function'; readonly type: FunctionType }
  | { readonly kind: 'resource'; readonly resource: number }
  /** An instance type: its declarations, read again for every import of it so that each gets resources of its own. */
  | { readonly kind: 'instance'; readonly start: number; readonly end: number; readonly frame: Frame }
  | { readonly kind: 'component' };

/** What stands in a component-level function index space. */
export type FunctionItem =
  | { readonly kind: 'imported'; readonly function: ImportedFunction }
  | {
      readonly kind: 'lifted';
      readonly coreFunction: number;
      readonly type: FunctionType;
      readonly options: CanonOptions;
    };

export type Item =
  | { readonly sort: 'function'; readonly item: FunctionItem }
  | { readonly sort: 'type'; readonly item: TypeItem }
  | { readonly sort: 'instance'; readonly item: InstanceItem };

/** An instance at component level, seen as its exports. */
export type InstanceItem = { readonly exports: ReadonlyMap<string, Item> };

/** A component inside the component, kept as bytes until it is instantiated. */
export type NestedComponent = {
  readonly start: number;
  readonly end: number;
  readonly frame: Frame;
};

/** The index spaces of one component or instance type. */
export class Frame {
  readonly parent: Frame | undefined;
  readonly types: TypeItem[] = [];
  readonly functions: FunctionItem[] = [];
  readonly instances: InstanceItem[] = [];
  readonly components: NestedComponent[] = [];

  constructor(parent?: Frame) {
    this.parent = parent;
  }

  type(index: number): TypeItem {
    return found(this.types[index], 'type', index);
  }

  value(index: number): number {
    const item = this.type(index);
    if (item.kind !== 'value') throw invalid(`type ${index} is no value type`);
    return item.type;
  }

  resource(index: number): number {
    const item = this.type(index);
    if (item.kind !== 'resource') throw invalid(`type ${index} is no resource type`);
    return item.resource;
  }

  function(index: number): FunctionItem {
    return found(this.functions[index], 'function', index);
  }

  functionType(index: number): FunctionType {
    const item = this.type(index);
    if (item.kind !== 'function') throw invalid(`type ${index} is no function type`);
    return item.type;
  }

  instance(index: number): InstanceItem {
    return found(this.instances[index], 'instance', index);
  }

  component(index: number): NestedComponent {
    return found(this.components[index], 'component', index);
  }
}

/** Bytes of type declarations read in all, repeated readings counted; bounds the work one component can cause. */
export const maxTypeBytes = 64 * 1024 * 1024;

/** Levels of instance types and components inside one another. */
export const maxNesting = 8;

/** What the parts of one parse share: the type table, the resources, and the budget of work. */
export class ParseState {
  readonly types = new TypeTable();
  readonly resources: ResourcePlan[] = [];
  readonly asyncImports: ReadonlySet<string>;
  #typeBytes = 0;
  #nesting = 0;

  constructor(asyncImports: ReadonlySet<string>) {
    this.asyncImports = asyncImports;
  }

  addResource(resource: ResourcePlan): number {
    return this.resources.push(resource) - 1;
  }

  /** Runs `read` one level deeper, charging the bytes it is about to read. */
  nested<T>(bytes: number, read: () => T): T {
    this.#typeBytes += bytes;
    if (this.#typeBytes > maxTypeBytes) throw unsupported(`its types take more than ${maxTypeBytes} bytes`);
    if (this.#nesting >= maxNesting) throw unsupported(`it is nested deeper than ${maxNesting} levels`);
    this.#nesting += 1;
    try {
      return read();
    } finally {
      this.#nesting -= 1;
    }
  }
}

export function found<T>(item: T | undefined, what: string, index: number): T {
  if (item === undefined) throw invalid(`${what} ${index} is not defined`);
  return item;
}

export function invalid(why: string): ShimError {
  return new ShimError('invalid-component', `not a valid component: ${why}`);
}

export function unsupported(why: string): ShimError {
  return new ShimError('unsupported', why);
}
