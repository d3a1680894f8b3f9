import type { HostMember } from './host-names.ts';
import type { FunctionType, ValueType } from './value-type.ts';

/** Raised with every change of what a plan means; part of the key under which plans are kept. */
export const planRevision = 2;

/** A resource type: the host's, or the component's own with the core function that destroys one. */
export type ResourcePlan =
  | { readonly kind: 'imported'; readonly interfaceName: string; readonly name: string }
  | { readonly kind: 'own'; readonly destructor: number | null };

/** Options of a `canon` definition: indexes of a memory and of core functions. */
export type CanonOptions = {
  readonly memory: number | null;
  readonly realloc: number | null;
  readonly postReturn: number | null;
};

/** A host function as the component calls it. */
export type ImportedFunction = {
  /** As the component names it, `wasi:io/poll@0.2.0`. */
  readonly interfaceName: string;
  /** As it is named in the imports object, `wasi:io/poll`. */
  readonly key: string;
  /** As the component names it, `[method]pollable.block`. */
  readonly name: string;
  readonly member: HostMember;
  readonly type: FunctionType;
  /** Whether it may wait, so that a call suspends the guest. */
  readonly suspends: boolean;
};

export type CoreFunctionPlan =
  | { readonly kind: 'alias'; readonly instance: number; readonly name: string }
  | { readonly kind: 'lower'; readonly function: ImportedFunction; readonly options: CanonOptions }
  | {
      readonly kind: 'resource.new' | 'resource.drop' | 'resource.rep';
      readonly resource: number;
    };

export type CoreAlias = { readonly instance: number; readonly name: string };
export type CoreSort = 'function' | 'table' | 'memory' | 'global';

export type CoreInstancePlan =
  | {
      readonly kind: 'instantiate';
      readonly module: number;
      readonly args: readonly (readonly [name: string, instance: number])[];
    }
  | {
      readonly kind: 'exports';
      readonly exports: readonly (readonly [name: string, sort: CoreSort, index: number])[];
    };

export type ExportedFunction = {
  readonly name: string;
  readonly coreFunction: number;
  readonly type: FunctionType;
  readonly options: CanonOptions;
};

/**
 * How a component is put together, as plain JSON: everything `LinkedComponent` needs besides the compiled core modules.
 * Definitions refer to earlier ones by index.
 */
export type LinkPlan = {
  readonly revision: number;
  readonly types: readonly ValueType[];
  readonly resources: readonly ResourcePlan[];
  /** Names of the core modules, by index. */
  readonly modules: readonly string[];
  readonly coreInstances: readonly CoreInstancePlan[];
  readonly coreFunctions: readonly CoreFunctionPlan[];
  readonly tables: readonly CoreAlias[];
  readonly memories: readonly CoreAlias[];
  readonly globals: readonly CoreAlias[];
  /** Interfaces the component imports, under the names of the imports object, each once. */
  readonly imports: readonly string[];
  /** Exported functions by interface; those the component exports by themselves under the empty name. */
  readonly exports: readonly (readonly [interfaceName: string, functions: readonly ExportedFunction[]])[];
};
