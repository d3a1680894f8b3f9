import { ShimError } from '../../error.ts';
import { BinaryReader } from './binary-reader.ts';
import { type CoreModule, sectionIds } from './module-reader.ts';
import { type SizeInstruction, scanCode } from './opcode-scanner.ts';
import type { CoreInstancePlan } from './plan.ts';
import { stateExportPattern } from './rewrite-module.ts';

export type Eligibility = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** What was found of all core modules: eligible ones with where each asks for its memory's size or grows it. */
export type Verdict =
  | { readonly ok: true; readonly sizeInstructions: readonly (readonly SizeInstruction[])[] }
  | { readonly ok: false; readonly reason: string };

/** i32, i64, f32, f64: what JavaScript can read from a global and write to it again. */
const numericTypes: ReadonlySet<number> = new Set([0x7f, 0x7e, 0x7d, 0x7c]);

/**
 * Whether an instance's memory, globals and handle table are all the state it has, so that putting them back makes it
 * as it was (reference/engine.md 3.2). Exactly one memory, numeric mutable globals, and no code that changes tables or
 * drops segments.
 */
export function eligibilityOf(
  modules: readonly CoreModule[],
  instances: readonly CoreInstancePlan[],
): Verdict {
  let memories = 0;
  for (const instance of instances) {
    if (instance.kind === 'instantiate') memories += modules[instance.module]?.memories.length ?? 0;
  }
  if (memories !== 1) return { ok: false, reason: `it has ${memories} memories, not one` };
  const sizeInstructions: (readonly SizeInstruction[])[] = [];
  for (const [index, module] of modules.entries()) {
    const scanned = scan(module);
    if (typeof scanned === 'string') return { ok: false, reason: `core module ${index}: ${scanned}` };
    sizeInstructions.push(scanned);
  }
  return { ok: true, sizeInstructions };
}

/** What the module says of its memory's size, or why it cannot be restored. */
function scan(module: CoreModule): readonly SizeInstruction[] | string {
  if (module.memories.some((memory) => memory.shared)) return 'its memory is shared between threads';
  if (module.globals.some((global) => global.mutable && !numericTypes.has(global.valueType)))
    return 'it has a mutable global that is no number';
  for (const name of module.exportNames)
    if (stateExportPattern.test(name)) return `it exports "${name}", a name this linker needs`;
  for (const section of module.sections) {
    if (section.id !== sectionIds.code) continue;
    try {
      return scanCode(new BinaryReader(module.bytes, section.body, section.end));
    } catch (error) {
      if (error instanceof ShimError) return error.message;
      throw error;
    }
  }
  return [];
}
