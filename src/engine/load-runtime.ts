import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import { planFile } from './component-cache.ts';
import type { CompiledComponent } from './core-modules.ts';
import { GlueRuntime } from './glue-runtime.ts';
import type { ComponentRuntime } from './guest-instance.ts';
import { LinkedRuntime } from './linked-runtime.ts';
import type { LinkPlan } from './linker/plan.ts';

/** Loads a cache entry into this worker, in the form it has. Throws `internal` for a damaged one. */
export async function loadRuntime({
  id,
  directory,
  entry,
  modules,
}: CompiledComponent): Promise<ComponentRuntime> {
  const { form } = entry;
  switch (form.kind) {
    case 'glue':
      return GlueRuntime.load(id, directory, modules);
    case 'plan': {
      const plan = await readPlan(directory);
      const ordered = entry.coreModules.flatMap((name) => modules.get(name) ?? []);
      return new LinkedRuntime(id, plan, ordered, form.restorable);
    }
    default:
      return form satisfies never;
  }
}

async function readPlan(directory: string): Promise<LinkPlan> {
  try {
    return JSON.parse(await readFile(join(directory, planFile), 'utf8')) as LinkPlan;
  } catch (error) {
    throw new ShimError(
      'internal',
      `the cache entry "${directory}" is damaged ("${planFile}"): remove it and start the pod again`,
      { cause: error },
    );
  }
}
