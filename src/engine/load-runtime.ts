import type { CompiledComponent } from './core-modules.ts';
import { GluePool } from './glue-instance.ts';
import { GlueRuntime } from './glue-runtime.ts';
import type { ComponentRuntime } from './guest-instance.ts';
import { isAsynchronous } from './http-export.ts';
import { defaultPoolLimits, LinkedRuntime } from './linked-runtime.ts';
import type { LinkPlan } from './linker/plan.ts';

/** Loads a component into this worker, in the form it has. */
export async function loadRuntime({
  id,
  digest,
  entry,
  text,
  modules,
  start,
}: CompiledComponent): Promise<ComponentRuntime> {
  const { form } = entry;
  switch (form.kind) {
    case 'glue':
      return GlueRuntime.load(
        id,
        { name: digest, text },
        modules,
        entry.exports.some(isAsynchronous) ? new GluePool() : undefined,
      );
    case 'plan':
      return new LinkedRuntime(
        id,
        JSON.parse(text) as LinkPlan,
        [...modules.values()],
        form.reuse.ok,
        defaultPoolLimits,
        start,
      );
    default:
      return form satisfies never;
  }
}
