import { parseComponent } from './linker/component-parser.ts';
import type { LinkPlan } from './linker/plan.ts';

/** What our linker makes of a component. */
export type Linked = {
  readonly plan: LinkPlan;
  /** Core modules by file name, rewritten, in the plan's order. */
  readonly coreModules: readonly (readonly [name: string, bytes: Uint8Array])[];
  /** Import names as host objects are looked up. */
  readonly imports: readonly string[];
  /** Exported interfaces with their version, and functions outside of interfaces. */
  readonly exports: readonly string[];
  /** Whether instances can go back to their first state. */
  readonly restorable: boolean;
};

/** Reads a component for our linker; undefined for those it leaves to jco (composed ones, async ABI, …). */
export function linkComponent(component: Uint8Array, asyncImports: readonly string[]): Linked | undefined {
  const parsed = parseComponent(component, asyncImports);
  if (!parsed.linkable) return undefined;
  const { plan, modules, eligible } = parsed;
  return {
    plan,
    coreModules: modules.map(({ name, bytes }) => [name, bytes]),
    imports: plan.imports,
    exports: plan.exports.flatMap(([name, functions]) =>
      name === '' ? functions.map((exported) => exported.name) : [name],
    ),
    restorable: eligible.ok,
  };
}
