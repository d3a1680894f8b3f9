import type { CoreFunctionPlan, ExportedFunction, LinkPlan, ResourcePlan } from './plan.ts';
import { type FunctionType, partsOf, type ValueType } from './value-type.ts';

/** Leaves only the types and resources in a plan that its functions use, numbered anew. */
export function compactPlan(plan: LinkPlan): LinkPlan {
  const compaction = new Compaction(plan);
  const coreFunctions = plan.coreFunctions.map((core) => compaction.coreFunction(core));
  const exports = plan.exports.map(
    ([name, functions]) => [name, functions.map((exported) => compaction.exported(exported))] as const,
  );
  return { ...plan, coreFunctions, exports, types: compaction.types, resources: compaction.resources };
}

class Compaction {
  readonly types: ValueType[] = [];
  readonly resources: ResourcePlan[] = [];
  readonly #plan: LinkPlan;
  readonly #typeIndexes = new Map<number, number>();
  readonly #resourceIndexes = new Map<number, number>();

  constructor(plan: LinkPlan) {
    this.#plan = plan;
  }

  coreFunction(core: CoreFunctionPlan): CoreFunctionPlan {
    switch (core.kind) {
      case 'alias':
        return core;
      case 'lower':
        return { ...core, function: { ...core.function, type: this.#function(core.function.type) } };
      default:
        return { ...core, resource: this.#resource(core.resource) };
    }
  }

  exported(exported: ExportedFunction): ExportedFunction {
    return { ...exported, type: this.#function(exported.type) };
  }

  #function(type: FunctionType): FunctionType {
    return {
      params: type.params.map(([name, part]) => [name, this.#type(part)] as const),
      result: type.result === null ? null : this.#type(type.result),
    };
  }

  #resource(old: number): number {
    const known = this.#resourceIndexes.get(old);
    if (known !== undefined) return known;
    const resource = this.#plan.resources[old];
    if (resource === undefined) throw new RangeError(`no resource ${old}`);
    const index = this.resources.push(resource) - 1;
    this.#resourceIndexes.set(old, index);
    return index;
  }

  #type(old: number): number {
    const known = this.#typeIndexes.get(old);
    if (known !== undefined) return known;
    const type = this.#plan.types[old];
    if (type === undefined) throw new RangeError(`no type ${old}`);
    for (const part of partsOf(type)) this.#type(part);
    const index = this.types.push(this.#renumbered(type)) - 1;
    this.#typeIndexes.set(old, index);
    return index;
  }

  #renumbered(type: ValueType): ValueType {
    const optional = (part: number | null): number | null => (part === null ? null : this.#type(part));
    switch (type.kind) {
      case 'record':
        return { ...type, fields: type.fields.map(([name, part]) => [name, this.#type(part)]) };
      case 'tuple':
        return { ...type, types: type.types.map((part) => this.#type(part)) };
      case 'list':
        return { ...type, element: this.#type(type.element) };
      case 'variant':
        return { ...type, cases: type.cases.map(([name, part]) => [name, optional(part)]) };
      case 'option':
        return { ...type, some: this.#type(type.some) };
      case 'result':
        return { ...type, ok: optional(type.ok), err: optional(type.err) };
      case 'own':
      case 'borrow':
        return { ...type, resource: this.#resource(type.resource) };
      default:
        return type;
    }
  }
}
