import { ShimError } from '../../error.ts';
import { BinaryReader } from './binary-reader.ts';
import { ParseState } from './component-items.ts';
import { ComponentReader } from './component-reader.ts';
import { type Eligibility, eligibilityOf } from './eligibility.ts';
import { importKeyOf } from './host-names.ts';
import { Layouts } from './layout.ts';
import { readModule } from './module-reader.ts';
import { pageCounters } from './page-counter.ts';
import { type CanonOptions, type LinkPlan, planRevision } from './plan.ts';
import { compactPlan } from './plan-compaction.ts';
import { rewriteModule } from './rewrite-module.ts';
import { type StartImage, startImageOf } from './start-image.ts';
import type { FunctionType } from './value-type.ts';

/** Pages of 64 KiB a guest's memory may have when nothing else is said: all that 32 bits address. */
export const maxMemoryPagesDefault = 65_536;

export type ParsedComponent =
  | {
      readonly linkable: true;
      readonly plan: LinkPlan;
      /** Core modules in the order of `plan.modules`, rewritten: memory capped, state exported when eligible. */
      readonly modules: readonly { readonly name: string; readonly bytes: Uint8Array }[];
      /** Whether instances can be restored. */
      readonly eligible: Eligibility;
      /** The memory before any code runs, where that is worth keeping; `bytes` are those of its runs. */
      readonly start: { readonly image: StartImage; readonly bytes: Uint8Array } | undefined;
    }
  | { readonly linkable: false; readonly reason: string };

/**
 * Reads a component into a plan by which `LinkedComponent` runs it. `asyncImports` are the host functions that may
 * wait, in jco's notation. Components that need more than this linker does, and bytes that are no component, answer
 * `linkable: false`; nothing is thrown for what a component may bring.
 */
export function parseComponent(
  bytes: Uint8Array,
  asyncImports: readonly string[],
  options: { readonly maxMemoryPages?: number } = {},
): ParsedComponent {
  try {
    return parse(bytes, new Set(asyncImports), options.maxMemoryPages ?? maxMemoryPagesDefault);
  } catch (error) {
    if (error instanceof ShimError) return { linkable: false, reason: error.message };
    throw error;
  }
}

function parse(
  bytes: Uint8Array,
  asyncImports: ReadonlySet<string>,
  maxMemoryPages: number,
): ParsedComponent {
  const state = new ParseState(asyncImports);
  const component = new ComponentReader(new BinaryReader(bytes), state);
  component.read();
  const modules = component.modules.map(({ start, end }) => readModule(bytes.subarray(start, end)));
  const verdict = eligibilityOf(modules, component.coreInstances);
  const plan = compactPlan({
    revision: planRevision,
    types: state.types.types,
    resources: state.resources,
    modules: modules.map((_module, index) => `core${index}.wasm`),
    coreInstances: component.coreInstances,
    coreFunctions: component.coreFunctions,
    tables: component.tables,
    memories: component.memories,
    globals: component.globals,
    imports: [...new Set([...component.imports].map(importKeyOf))],
    exports: component.exports,
  });
  checkOptions(plan);
  const counters = verdict.ok ? pageCounters(modules, verdict.sizeInstructions) : [];
  const start = verdict.ok ? startImageOf(modules) : undefined;
  return {
    linkable: true,
    plan,
    start,
    modules: modules.map((module, index) => ({
      name: plan.modules[index] ?? '',
      bytes: rewriteModule(module, {
        exportState: verdict.ok,
        maxMemoryPages,
        pageCounter: counters[index],
        data: index === start?.image.module ? start.emptied : undefined,
      }),
    })),
    eligible: verdict.ok ? { ok: true } : verdict,
  };
}

/** Every function that needs memory or an allocator names them. */
function checkOptions(plan: LinkPlan): void {
  const layouts = new Layouts(plan.types);
  for (const core of plan.coreFunctions)
    if (core.kind === 'lower')
      checkFunction(layouts, core.function.type, core.options, 'lower', core.function.name);
  for (const [, functions] of plan.exports)
    for (const { type, options, name } of functions) checkFunction(layouts, type, options, 'lift', name);
}

function checkFunction(
  layouts: Layouts,
  type: FunctionType,
  options: CanonOptions,
  direction: 'lift' | 'lower',
  name: string,
): void {
  const { params, result } = layouts.signature(type);
  layouts.sequence(type.params.map(([, part]) => part));
  if (type.result !== null) layouts.of(type.result);
  const paramPointers = type.params.some(([, part]) => layouts.hasPointers(part));
  const resultPointers = type.result !== null && layouts.hasPointers(type.result);
  const spilled = params === undefined || result === undefined;
  const allocates = direction === 'lower' ? resultPointers : paramPointers || params === undefined;
  if ((paramPointers || resultPointers || spilled) && options.memory === null)
    throw new ShimError('invalid-component', `not a valid component: "${name}" needs a memory`);
  if (allocates && options.realloc === null)
    throw new ShimError('invalid-component', `not a valid component: "${name}" needs an allocator`);
}
