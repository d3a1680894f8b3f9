import type { Reuse } from './component-entry.ts';
import { parseComponent } from './linker/component-parser.ts';
import type { LinkPlan } from './linker/plan.ts';
import type { StartImage } from './linker/start-image.ts';

/** What our linker makes of a component. */
export type Linked = {
  readonly plan: LinkPlan;
  /** Core modules by file name, rewritten, in the plan's order. */
  readonly coreModules: readonly (readonly [name: string, bytes: Uint8Array])[];
  /** Import names as host objects are looked up. */
  readonly imports: readonly string[];
  /** Exported interfaces with their version, and functions outside of interfaces. */
  readonly exports: readonly string[];
  readonly reuse: Reuse;
  /** The memory before any code runs, kept apart from the core modules. */
  readonly start?: { readonly image: StartImage; readonly bytes: Uint8Array };
};

/** Reads a component for our linker; of those it leaves to jco (composed ones, async ABI, …) only the reason. */
export function linkComponent(
  component: Uint8Array,
  asyncImports: readonly string[],
): Linked | { readonly reason: string } {
  const parsed = parseComponent(component, asyncImports);
  if (!parsed.linkable) return { reason: parsed.reason };
  const { plan, modules, eligible, start } = parsed;
  return {
    plan,
    coreModules: modules.map(({ name, bytes }) => [name, bytes]),
    imports: plan.imports,
    exports: plan.exports.flatMap(([name, functions]) =>
      name === '' ? functions.map((exported) => exported.name) : [name],
    ),
    reuse: eligible,
    ...(start === undefined ? {} : { start: { image: start.image, bytes: start.bytes } }),
  };
}
