import { ShimError } from '../../error.ts';
import { importKeyOf, upperCamel } from './host-names.ts';
import type { ImportObject, InstanceState } from './instance-state.ts';
import type { ImportedFunction, LinkPlan } from './plan.ts';

/** A function of the host that takes the first argument as its `this`, whatever kind of member it is. */
export type HostFunction = (this: unknown, ...rest: unknown[]) => unknown;

/** Gives the host function for an instance. Throws `unsupported` when its host objects lack it. */
export type Callee = (state: InstanceState) => HostFunction;

/**
 * Finds what a component imports among the host objects. Names come from the guest, so only what an interface or a class
 * of it defines itself is ever found: nothing of `Object.prototype` or `Function.prototype`, no `constructor`.
 */
export class HostLinks {
  /** Where the classes of imported resources are found, by resource. */
  readonly #classes: readonly (readonly [key: string, name: string] | undefined)[];
  readonly #finders: [label: string, find: (imports: ImportObject) => HostFunction][] = [];

  constructor(plan: LinkPlan) {
    this.#classes = plan.resources.map((resource) =>
      resource.kind === 'imported'
        ? [importKeyOf(resource.interfaceName), upperCamel(resource.name)]
        : undefined,
    );
  }

  get slotCount(): number {
    return this.#finders.length;
  }

  /** How an imported function is found among the host objects of an instance, once for all calls over the same ones. */
  callee(imported: ImportedFunction): Callee {
    const { member } = imported;
    const count = imported.type.params.length;
    const find = (imports: ImportObject): HostFunction => {
      switch (member.kind) {
        case 'method': {
          const { prototype } = classOf(imported, member.resource, imports);
          return methodOf(prototype as object, member.name) ?? missing(imported);
        }
        case 'function':
          return asMethod(
            ownFunction(interfaceOf(imported, imports), member.name) ?? missing(imported),
            count,
          );
        case 'static':
          return asMethod(
            ownFunction(classOf(imported, member.resource, imports), member.name) ?? missing(imported),
            count,
          );
        case 'constructor':
          return constructing(classOf(imported, member.resource, imports) as never, count);
        default:
          return member satisfies never;
      }
    };
    const slot = this.#finders.push([`${imported.interfaceName}#${imported.name}`, find]) - 1;
    return (state) => {
      const known = state.slots[slot];
      if (known !== undefined) return known;
      const found = find(state.imports);
      state.slots[slot] = found;
      return found;
    };
  }

  /** The functions that the given host objects do not have; a call of one ends the guest. */
  missing(imports: ImportObject): readonly string[] {
    const lacks = (find: (imports: ImportObject) => HostFunction): boolean => {
      try {
        find(imports);
        return false;
      } catch (error) {
        if (error instanceof ShimError) return true;
        throw error;
      }
    };
    return this.#finders.filter(([, find]) => lacks(find)).map(([label]) => label);
  }

  /** Whether an object is of the class that the host has for an imported resource. */
  isInstance(resource: number, value: unknown, state: InstanceState): boolean {
    let prototype = state.prototypes[resource];
    if (prototype === undefined) {
      const known = this.#classes[resource];
      if (known === undefined) return false;
      const host = state.imports[known[0]];
      const found = host === undefined ? undefined : ownFunction(host, known[1]);
      if (found === undefined) return false;
      prototype = found.prototype as object;
      state.prototypes[resource] = prototype;
    }
    if (typeof value !== 'object' || value === null) return false;
    return (
      Object.getPrototypeOf(value) === prototype || Object.prototype.isPrototypeOf.call(prototype, value)
    );
  }
}

function asMethod(plain: (...args: unknown[]) => unknown, count: number): HostFunction {
  switch (count) {
    case 0:
      return () => plain();
    case 1:
      return function (this: unknown) {
        return plain(this);
      };
    case 2:
      return function (this: unknown, second) {
        return plain(this, second);
      };
    default:
      return function (this: unknown, ...rest) {
        return plain(this, ...rest);
      };
  }
}

function constructing(constructed: new (...args: unknown[]) => object, count: number): HostFunction {
  switch (count) {
    case 0:
      return () => new constructed();
    case 1:
      return function (this: unknown) {
        return new constructed(this);
      };
    default:
      return function (this: unknown, ...rest) {
        return new constructed(this, ...rest);
      };
  }
}

function interfaceOf(imported: ImportedFunction, imports: ImportObject): object {
  return imports[imported.key] ?? missing(imported);
}

function classOf(imported: ImportedFunction, name: string, imports: ImportObject): HostFunction {
  return ownFunction(interfaceOf(imported, imports), name) ?? missing(imported);
}

function ownFunction(holder: object, name: string): HostFunction | undefined {
  if (name === 'prototype' || !Object.hasOwn(holder, name)) return undefined;
  const found: unknown = (holder as Record<string, unknown>)[name];
  return typeof found === 'function' ? (found as HostFunction) : undefined;
}

function methodOf(prototype: object, name: string): HostFunction | undefined {
  if (name === 'constructor') return undefined;
  for (
    let holder: object | null = prototype;
    holder !== null && holder !== Object.prototype;
    holder = Object.getPrototypeOf(holder) as object | null
  ) {
    const found = ownFunction(holder, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

function missing({ interfaceName, name }: ImportedFunction): never {
  throw new ShimError(
    'unsupported',
    `the guest called "${name}" of "${interfaceName}", which this version does not provide`,
  );
}
