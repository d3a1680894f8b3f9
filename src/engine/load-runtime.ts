import type { CompiledComponent } from './core-modules.ts';
import { GluePool } from './glue-instance.ts';
import { GlueRuntime } from './glue-runtime.ts';
import type { ComponentRuntime } from './guest-instance.ts';
import { isAsynchronous } from './http-export.ts';
import { defaultPoolLimits, LinkedRuntime } from './linked-runtime.ts';
import { CompiledPlan } from './linker/compiled-plan.ts';
import type { LinkPlan } from './linker/plan.ts';

/** Plans that a worker read while their core modules were still being compiled, by the component's digest. */
export type PlansAhead = Map<string, CompiledPlan>;

/** Loads a component into this worker, in the form it has. A plan that was read ahead is taken out of `ahead`. */
export async function loadRuntime(
  { id, digest, entry, text, modules, start }: CompiledComponent,
  ahead: PlansAhead = new Map(),
): Promise<ComponentRuntime> {
  const { form } = entry;
  switch (form.kind) {
    case 'glue':
      return GlueRuntime.load(
        id,
        { name: digest, text },
        modules,
        entry.exports.some(isAsynchronous) ? new GluePool() : undefined,
      );
    case 'plan': {
      const plan = ahead.get(digest) ?? readPlan(text);
      ahead.delete(digest);
      return new LinkedRuntime(id, plan, [...modules.values()], form.reuse.ok, defaultPoolLimits, start);
    }
    default:
      return form satisfies never;
  }
}

/** The text of an entry → its plan, ready. */
export function readPlan(text: string): CompiledPlan {
  return new CompiledPlan(JSON.parse(text) as LinkPlan);
}
