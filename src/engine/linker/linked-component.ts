import { readSync } from 'node:fs';
import { ShimError } from '../../error.ts';
import { anotherVersion, type CompiledEntry, type CompiledPlan } from './compiled-plan.ts';
import type { HostLinks } from './host-links.ts';
import { layoutOf, unpackRuns } from './image-ranges.ts';
import type { BoundImport } from './import-call.ts';
import { type ImportObject, InstanceState } from './instance-state.ts';
import { LinkedInstance } from './linked-instance.ts';
import { type ImageFile, MappedImage } from './mapped-image.ts';
import { type Image, MemoryImage } from './memory-image.ts';
import type { LinkPlan } from './plan.ts';
import type { StartImage } from './start-image.ts';

/** A component ready to be instantiated any number of times: its functions compiled once, its modules shared. */
export class LinkedComponent {
  readonly modules: readonly WebAssembly.Module[];
  readonly #compiled: CompiledPlan;
  /** Whether an instance's start-up code has wanted to wait. */
  #waitsAtStart = false;
  /** The image that instances share as long as they begin alike. */
  #image: Image | undefined;
  /** What the memory of one core module is before any code runs, where the module does not bring it itself. */
  readonly #start: { readonly module: number; readonly image: Image; readonly settled: boolean } | undefined;

  /** `modules` are the plan's core modules, compiled, in its order; `start` is the image that belongs to them. */
  constructor(compiled: CompiledPlan, modules: readonly WebAssembly.Module[], start?: KeptImage) {
    if (modules.length !== compiled.plan.modules.length) throw anotherVersion();
    this.#compiled = compiled;
    this.modules = modules;
    if (start === undefined) return;
    const { module, settled } = start.image;
    this.#start = { module, settled, image: openImage(start) };
    if (settled) this.#image = this.#start.image;
  }

  get plan(): LinkPlan {
    return this.#compiled.plan;
  }

  get links(): HostLinks {
    return this.#compiled.links;
  }

  /** What core code calls for a host function, by core function. */
  get boundImports(): readonly (BoundImport | undefined)[] {
    return this.#compiled.boundImports;
  }

  /** An exported function, or undefined. Functions outside of interfaces have the interface name `''`. */
  exported(interfaceName: string, name: string): CompiledEntry | undefined {
    return this.#compiled.exports.get(interfaceName)?.get(name);
  }

  /** Gives the memory of a core module that was just instantiated its contents. */
  fillMemory(module: number, memory: WebAssembly.Memory): void {
    if (this.#start?.module !== module) return;
    if (memory.buffer.byteLength !== this.#start.image.memoryBytes)
      throw new ShimError('internal', 'a core module and the image of its memory do not belong together');
    this.#start.image.fill(memory);
  }

  /** The image to which an instance's memory, as it is now, goes back: that of the other instances if it is alike. */
  imageOf(memory: WebAssembly.Memory): Image {
    // No code has run, so there is nothing to compare.
    if (this.#start?.settled === true) return this.#start.image;
    const contents = Buffer.from(memory.buffer);
    const shared = [this.#image, this.#start?.image].find((image) => image?.matches(contents) === true);
    if (shared !== undefined) {
      shared.attach(memory);
      return shared;
    }
    const copied = MemoryImage.of(contents);
    if (this.#image !== undefined) return copied;
    this.#image = MappedImage.make(copied) ?? copied;
    this.#image.attach(memory);
    return this.#image;
  }

  /** The host functions the component imports that the given host objects lack, as `interface#function`. */
  missingFunctions(imports: ImportObject): readonly string[] {
    return this.links.missing(imports);
  }

  /**
   * A fresh instance over the given host objects. Throws what the guest's start-up code throws, `unsupported` when that
   * code calls a host function that may wait.
   */
  instantiate(imports: ImportObject): LinkedInstance {
    return new LinkedInstance(this, new InstanceState(this.links, imports), false);
  }

  /** As `instantiate`, for guests whose constructors call host functions that may wait, too. */
  async start(imports: ImportObject): Promise<LinkedInstance> {
    if (!this.#waitsAtStart) {
      try {
        return this.instantiate(imports);
      } catch (thrown) {
        if (!(thrown instanceof ShimError) || thrown.code !== 'unsupported') throw thrown;
        this.#waitsAtStart = true;
      }
    }
    const instance = this.begin(imports);
    await instance.initialize();
    return instance;
  }

  /** An instance whose constructors (`_initialize`) have not run yet: `initialize` has to follow. Throws as `instantiate`. */
  begin(imports: ImportObject): LinkedInstance {
    return new LinkedInstance(this, new InstanceState(this.links, imports), true);
  }
}

/** An image with its bytes, in a file or, where there can be none, in memory. */
export type KeptImage = { readonly image: StartImage } & (ImageFile | { readonly bytes: Uint8Array });

function openImage(kept: KeptImage): Image {
  const { memoryBytes, runs } = kept.image;
  const mapped = 'fd' in kept ? MappedImage.open(memoryBytes, runs, kept) : undefined;
  return mapped ?? new MemoryImage(memoryBytes, unpackRuns(bytesOf(kept), runs));
}

function bytesOf(kept: KeptImage): Uint8Array {
  if ('bytes' in kept) return kept.bytes;
  const bytes = new Uint8Array(layoutOf(kept.image.runs).length);
  readSync(kept.fd, bytes, 0, bytes.length, kept.at);
  return bytes;
}
