import { ShimError } from '../../error.ts';
import { HostLinks } from './host-links.ts';
import type { BoundImport } from './import-call.ts';
import { Layouts } from './layout.ts';
import { type CompiledExport, compileExport } from './lift-export.ts';
import { compileImport } from './lower-import.ts';
import { MemoryCodecs } from './memory-codec.ts';
import { type ExportedFunction, type LinkPlan, planRevision } from './plan.ts';

export type CompiledEntry = { readonly plan: ExportedFunction; readonly compiled: CompiledExport };

/** A plan with its functions compiled; it needs no core module for that, so it can be made while those are compiled. */
export class CompiledPlan {
  readonly plan: LinkPlan;
  readonly links: HostLinks;
  /** What core code calls for a host function, by core function. */
  readonly boundImports: readonly (BoundImport | undefined)[];
  /** Exported functions by interface. Functions outside of interfaces have the interface name `''`. */
  readonly exports: ReadonlyMap<string, ReadonlyMap<string, CompiledEntry>>;

  /**
   * `onlyGeneric` leaves the hand-written ways of common host functions aside. Throws `internal` for a plan of another
   * revision.
   */
  constructor(plan: LinkPlan, onlyGeneric = false) {
    if (plan.revision !== planRevision) throw anotherVersion();
    this.plan = plan;
    this.links = new HostLinks(plan);
    const codecs = new MemoryCodecs(new Layouts(plan.types), plan.resources);
    this.boundImports = plan.coreFunctions.map((core) =>
      core.kind === 'lower' ? compileImport(core.function, codecs, this.links, onlyGeneric) : undefined,
    );
    this.exports = new Map(
      plan.exports.map(([interfaceName, functions]) => [
        interfaceName,
        new Map(functions.map((plan) => [plan.name, { plan, compiled: compileExport(plan, codecs) }])),
      ]),
    );
  }
}

export function anotherVersion(): ShimError {
  return new ShimError('internal', 'the link plan was made by another version: prepare the app again');
}
