import { ShimError } from '../../error.ts';
import { type CallScope, HandleTable } from './handle-table.ts';
import type { HostFunction, HostLinks } from './host-links.ts';

/** The host objects a component is attached to: interface name → its functions and classes. */
export type ImportObject = Readonly<Record<string, object>>;

/** What one instance is on the host's side, besides its core instances. */
export class InstanceState {
  readonly handles = new HandleTable();
  readonly links: HostLinks;
  imports: ImportObject;
  /** Functions, methods and constructors of `imports`, by their slot; found when first called. */
  readonly slots: (HostFunction | undefined)[];
  /** Prototypes of the classes in `imports`, by resource; found when first needed. */
  prototypes: (object | undefined)[] = [];
  /** Why the instance cannot be used any more. */
  dead: Error | undefined;
  /** False while guest code runs that must not call out: allocators and post-return functions. */
  mayLeave = true;
  /** The export call under way. */
  call: CallScope | undefined;
  /** Destructors of the component's own resources, by resource. */
  readonly destructors: (((rep: number) => unknown) | undefined)[] = [];
  /** Host functions called before the phase `done`. */
  readonly startCalls = new Set<string>();
  /**
   * `core`: core modules are being instantiated, where nothing may wait; `initializers`: `_initialize` functions that
   * were put off run, where guests may wait; `done`: it can be called.
   */
  phase: 'core' | 'initializers' | 'done' = 'core';

  constructor(links: HostLinks, imports: ImportObject) {
    this.links = links;
    this.imports = imports;
    this.slots = new Array(links.slotCount).fill(undefined);
  }

  attach(imports: ImportObject): void {
    this.imports = imports;
    this.slots.fill(undefined);
    this.prototypes = [];
  }

  /** Refuses calls out of a dead instance or of code that must not make any. */
  checkLeave(): void {
    if (this.dead !== undefined)
      throw new ShimError('failed-precondition', 'the instance has trapped', { cause: this.dead });
    if (!this.mayLeave)
      throw new ShimError(
        'invalid-component',
        'the guest broke the component ABI: it calls out of its allocator',
      );
  }

  /** Marks the instance dead and returns the error to throw through the guest. */
  fail(thrown: unknown): Error {
    const error =
      thrown instanceof Error
        ? thrown
        : new ShimError('internal', `a host function threw ${describe(thrown)} where no error is declared`);
    this.dead ??= error;
    return error;
  }
}

function describe(thrown: unknown): string {
  if (typeof thrown === 'object' && thrown !== null && 'tag' in thrown) return `"${String(thrown.tag)}"`;
  return typeof thrown === 'string' ? `"${thrown}"` : `a value of type ${typeof thrown}`;
}
