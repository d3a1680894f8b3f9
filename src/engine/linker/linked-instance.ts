import { ShimError } from '../../error.ts';
import { CoreLinker } from './core-linker.ts';
import { waitsWhileStarting } from './import-call.ts';
import type { ImportObject, InstanceState } from './instance-state.ts';
import type { BoundExport } from './lift-export.ts';
import type { LinkedComponent } from './linked-component.ts';
import type { Image } from './memory-image.ts';
import { memoryExport, pagesExport, stateExportPattern } from './rewrite-module.ts';

/** Whether an instance can be restored. */
export type SnapshotResult = { readonly ok: true } | { readonly ok: false; readonly reason: string };

type Snapshot = {
  readonly memory: WebAssembly.Memory;
  readonly image: Image;
  /** Whether a restored guest sees its memory as large as it was. */
  readonly countsPages: boolean;
  readonly globals: readonly WebAssembly.Global[];
  readonly values: readonly (number | bigint)[];
};

/** One instance of a component. One call at a time; after a trap it is dead. */
export class LinkedInstance {
  readonly #component: LinkedComponent;
  readonly #state: InstanceState;
  readonly #core: CoreLinker;
  readonly #exports = new Map<string, BoundExport>();
  #lastExport:
    | { readonly interfaceName: string; readonly name: string; readonly bound: BoundExport }
    | undefined;
  #memories: readonly WebAssembly.Memory[] | undefined;
  #initializers: readonly (() => Promise<unknown>)[] | undefined;
  #snapshot: Snapshot | undefined;
  #memoryView = new Uint8Array(0);

  /** Made by `LinkedComponent`; with `putOff`, `initialize` has to follow. */
  constructor(component: LinkedComponent, state: InstanceState, putOff: boolean) {
    this.#component = component;
    this.#state = state;
    this.#core = new CoreLinker(component.plan, state, component.boundImports);
    try {
      this.#core.instantiate(component.modules, putOff, (module, memory) =>
        component.fillMemory(module, memory),
      );
    } catch (thrown) {
      state.fail(thrown);
      if (WebAssembly.SuspendError !== undefined && thrown instanceof WebAssembly.SuspendError)
        throw waitsWhileStarting(thrown);
      throw thrown;
    }
    state.phase = putOff ? 'initializers' : 'done';
  }

  /** Whether `initialize` does anything. */
  get hasInitializers(): boolean {
    return this.#core.putOff.length > 0;
  }

  /**
   * Runs the initializers that were put off; the guest may wait in them. Rejects with what they throw. Again after a
   * restore to the state before them.
   */
  async initialize(): Promise<void> {
    this.#state.phase = 'initializers';
    this.#initializers ??= this.#core.putOff.map((run) => WebAssembly.promising(run));
    try {
      for (const run of this.#initializers) await run();
    } catch (thrown) {
      throw this.#state.fail(thrown);
    }
    this.#state.phase = 'done';
  }

  /** Why it cannot be used any more, or undefined. */
  get dead(): Error | undefined {
    return this.#state.dead;
  }

  /** Host functions that its start-up code called, which a guest restored to what that left does not call again. */
  get startCalls(): readonly string[] {
    return [...this.#state.startCalls];
  }

  /** Bytes of linear memory it takes. */
  get memoryBytes(): number {
    // All of an eligible component's memory, and empty once that has grown.
    if (this.#memoryView.length > 0) return this.#memoryView.length;
    this.#memories ??= [...new Set(this.#core.instances.flatMap(memoriesOf))];
    return this.#memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
  }

  /**
   * Whether its memory has grown where no counter hides it (see `PageCounter`): a restored guest could tell, and would
   * have less room than a new one.
   */
  get outgrown(): boolean {
    if (this.#snapshot === undefined || this.#snapshot.countsPages) return false;
    return this.#snapshot.memory.buffer.byteLength !== this.#snapshot.image.memoryBytes;
  }

  /** Exports of its core instances, by index; for tests. */
  get coreExports(): readonly Readonly<Record<string, unknown>>[] {
    return this.#core.instances;
  }

  /** Handles the guest holds. */
  get openHandles(): number {
    return this.#state.handles.size;
  }

  /** Exchanges the host objects, for the next request. */
  attach(imports: ImportObject): void {
    this.#state.attach(imports);
  }

  /**
   * Calls an exported function, named as in WIT (`wasi:http/incoming-handler@0.2.0`, `handle`). Rejects with
   * `ResultError` for the error of a `result`; with what was thrown when the guest traps, which is then dead.
   */
  call(interfaceName: string, name: string, args: readonly unknown[]): Promise<unknown> {
    if (this.#state.dead !== undefined || this.#state.call !== undefined) {
      const why = this.#state.dead === undefined ? 'is in use' : 'has trapped';
      return Promise.reject(
        new ShimError('failed-precondition', `the instance ${why}`, { cause: this.#state.dead }),
      );
    }
    const last = this.#lastExport;
    if (last?.name === name && last.interfaceName === interfaceName) return last.bound(args);
    const key = `${interfaceName}#${name}`;
    const bound = this.#exports.get(key) ?? this.#bind(interfaceName, name);
    if (bound === undefined)
      return Promise.reject(
        new ShimError('not-found', `the component does not export "${name}" of "${interfaceName}"`),
      );
    this.#exports.set(key, bound);
    this.#lastExport = { interfaceName, name, bound };
    return bound(args);
  }

  #bind(interfaceName: string, name: string): BoundExport | undefined {
    const entry = this.#component.exported(interfaceName, name);
    if (entry === undefined) return undefined;
    const { plan, compiled } = entry;
    const { postReturn } = plan.options;
    return compiled(
      this.#core.context(plan.options),
      WebAssembly.promising(this.#core.function(plan.coreFunction)) as never,
      postReturn === null ? undefined : (this.#core.function(postReturn) as never),
    );
  }

  /**
   * Takes the image to which `restore` goes back: memory, globals, an empty handle table. Only for components that
   * `parseComponent` called eligible, right after instantiation.
   */
  snapshot(): SnapshotResult {
    const { dead, call, handles } = this.#state;
    if (dead !== undefined || call !== undefined)
      return { ok: false, reason: 'the instance has trapped or is in use' };
    if (handles.size > 0) return { ok: false, reason: `it holds ${handles.size} handles from its start` };
    const owner = this.#core.instances.find((exports) => Object.hasOwn(exports, memoryExport));
    if (owner === undefined) return { ok: false, reason: 'its state is not exported' };
    const memory = owner[memoryExport];
    // The numbers of handles that came and went at the start are given out again, as after every restore.
    handles.clear();
    const globals = [...new Set(this.#core.instances.flatMap(globalsOf))];
    this.#snapshot = {
      memory: memory as WebAssembly.Memory,
      image: this.#component.imageOf(memory as WebAssembly.Memory),
      countsPages: Object.hasOwn(owner, pagesExport),
      globals,
      values: globals.map((global) => global.value),
    };
    return { ok: true };
  }

  /**
   * Makes the instance as it was at `snapshot`, and returns the bytes of memory that it takes for itself from then on.
   * Throws `failed-precondition` when it is dead, in use or has no image.
   */
  restore(): number {
    const { dead, call, handles } = this.#state;
    const snapshot = this.#snapshot;
    if (snapshot === undefined || dead !== undefined || call !== undefined)
      throw new ShimError('failed-precondition', 'the instance cannot be restored', { cause: dead });
    if (this.#memoryView.length === 0) this.#memoryView = new Uint8Array(snapshot.memory.buffer);
    const ownBytes = snapshot.image.restore(snapshot.memory, this.#memoryView);
    const { globals, values } = snapshot;
    for (let index = 0; index < globals.length; index++)
      (globals[index] as WebAssembly.Global).value = values[index] ?? 0;
    handles.clear();
    return ownBytes;
  }
}

function memoriesOf(exports: Readonly<Record<string, unknown>>): WebAssembly.Memory[] {
  return Object.values(exports).filter((item) => item instanceof WebAssembly.Memory);
}

function globalsOf(exports: Readonly<Record<string, unknown>>): WebAssembly.Global[] {
  return Object.entries(exports)
    .filter(([name]) => stateExportPattern.test(name) && name !== memoryExport)
    .map(([, item]) => item as WebAssembly.Global);
}
