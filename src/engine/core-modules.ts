import { ShimError } from '../error.ts';
import { readCode } from './code-store.ts';
import type { CompiledCode } from './compiled-code.ts';
import { openCacheEntry } from './component-cache.ts';
import type { CacheEntry, EntryContent } from './component-entry.ts';
import type { KeptImage } from './linker/linked-component.ts';
import { makeImageFile } from './linker/mapped-image.ts';
import type { PreparedApp } from './prepared-app.ts';

/**
 * A component with its core modules compiled; it can be posted to workers, which then share the code and need nothing
 * of the cache.
 */
export type CompiledComponent = {
  readonly id: string;
  readonly digest: string;
  readonly entry: CacheEntry;
  /** The glue as ES module text, or the plan as JSON. */
  readonly text: string;
  readonly modules: ReadonlyMap<string, WebAssembly.Module>;
  /** Whether the modules came with all the code that there is to be had ahead. */
  readonly hasCode: boolean;
  /** The memory before any code runs; its file is the engine's for as long as that lives. */
  readonly start?: KeptImage;
};

/** An entry of the cache on its way to be compiled. */
type Opened = {
  readonly path: string;
  readonly content: EntryContent;
  start: KeptImage | undefined;
  /** In the order of the entry; undefined until it is compiled. */
  readonly modules: Map<string, WebAssembly.Module | undefined>;
  /** Its kept code, by module. */
  readonly code: ReadonlyMap<string, Uint8Array> | undefined;
};

/**
 * The core modules of an app, from the cache to what workers run, in three steps: opened while everything may still be
 * opened, compiled, and, once the process has given up its rights, completed with code that is kept.
 */
export class CoreModules {
  readonly #prepared: PreparedApp;
  readonly #entries: ReadonlyMap<string, Opened>;
  readonly #compiledCode: CompiledCode | undefined;

  private constructor(
    prepared: PreparedApp,
    entries: ReadonlyMap<string, Opened>,
    compiledCode: CompiledCode | undefined,
  ) {
    this.#prepared = prepared;
    this.#entries = entries;
    this.#compiledCode = compiledCode;
  }

  /**
   * Reads the cache entry of every component and checks that this node's shim wrote it, each once. With `compiledCode` code
   * that is kept of one is used. Throws `data-loss` for an entry that has to be made again.
   */
  static open(prepared: PreparedApp, compiledCode?: CompiledCode): CoreModules {
    const entries = new Map<string, Opened>();
    for (const { entryPath: path, digest } of prepared.components) {
      if (entries.has(path)) continue;
      const code = compiledCode === undefined ? undefined : readCode(path);
      entries.set(path, opened(path, openCacheEntry(path, digest), code));
    }
    return new CoreModules(prepared, entries, compiledCode);
  }

  /** Those of an entry that is in memory; `path` names it in errors. */
  static of(path: string, content: EntryContent): CoreModules {
    const app = { name: path, variables: [], triggers: [], components: [] };
    return new CoreModules({ app, components: [] }, new Map([[path, opened(path, content)]]), undefined);
  }

  /** The plans of the components that have one, with their digests. */
  get plans(): readonly { readonly digest: string; readonly text: string }[] {
    return this.#prepared.components.flatMap(({ digest, entryPath }) => {
      const content = this.#entries.get(entryPath)?.content;
      return content?.entry.form.kind === 'plan' ? [{ digest, text: content.text }] : [];
    });
  }

  /** Compiles the modules of which no code is kept. Throws `data-loss` for one that does not compile. */
  async compile(): Promise<void> {
    const compiling = this.#compileRest((opened, name) => (opened.code?.get(name)?.length ?? 0) === 0);
    // While V8's own threads compile.
    for (const opened of this.#entries.values())
      if (opened.content.start !== undefined) opened.start ??= keep(opened.content.start);
    await compiling;
  }

  /**
   * Makes the other modules with their code, and compiles those whose code V8 does not take. What is kept is the outcome of
   * a guest's own run, so a process that may do more than that guest's must not come here.
   */
  async complete(): Promise<readonly CompiledComponent[]> {
    await this.compile();
    const withCode = new Set<Opened>();
    for (const opened of this.#entries.values()) if (this.#takeCode(opened)) withCode.add(opened);
    await this.#compileRest(() => true);
    for (const { content } of this.#entries.values()) release(content.coreModules);
    return this.#prepared.components.flatMap(({ id, digest, entryPath }) => {
      const opened = this.#entries.get(entryPath);
      if (opened === undefined) return [];
      const { content, modules, start } = opened;
      const { entry, text } = content;
      const whole = new Map(
        [...modules].flatMap(([name, made]) => (made === undefined ? [] : [[name, made]])),
      );
      const hasCode = withCode.has(opened);
      return [
        { id, digest, entry, text, modules: whole, hasCode, ...(start === undefined ? {} : { start }) },
      ];
    });
  }

  /** Makes the modules of which code is kept; whether V8 took all of it. */
  #takeCode({ content, modules, code }: Opened): boolean {
    if (code === undefined) return false;
    for (const [name, bytes] of content.coreModules) {
      const kept = code.get(name);
      if (kept !== undefined && kept.length > 0)
        modules.set(name, this.#compiledCode?.moduleWith(bytes, kept));
    }
    return content.coreModules.every(([name]) => modules.get(name) !== undefined);
  }

  async #compileRest(wanted: (opened: Opened, name: string) => boolean): Promise<void> {
    const compiling: Promise<void>[] = [];
    for (const opened of this.#entries.values())
      for (const [name, bytes] of opened.content.coreModules)
        if (opened.modules.get(name) === undefined && wanted(opened, name))
          compiling.push(
            compile(opened.path, name, bytes).then((module) => void opened.modules.set(name, module)),
          );
    await Promise.all(compiling);
  }
}

function opened(path: string, content: EntryContent, code?: ReadonlyMap<string, Uint8Array>): Opened {
  const modules = new Map(content.coreModules.map(([name]) => [name, undefined]));
  return { path, content, start: undefined, modules, code };
}

async function compile(path: string, name: string, bytes: Uint8Array): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw new ShimError('data-loss', `"${path}" is not used: "${name}" does not compile`, { cause: error });
  }
}

/** Puts an image into a file that all workers map, so that they share its memory. */
function keep({ image, bytes }: NonNullable<EntryContent['start']>): KeptImage {
  let place = 0;
  const runs = image.runs.map(([offset, length]) => {
    place += length;
    return { offset, bytes: bytes.subarray(place - length, place) };
  });
  const fd = makeImageFile(image.memoryBytes, runs);
  return fd === undefined ? { image, bytes: Uint8Array.from(bytes) } : { image, fd };
}

/** Gives back the bytes of an entry, of which V8 has a copy: nothing else would make it collect them for a long time. */
function release(coreModules: EntryContent['coreModules']): void {
  const [first] = coreModules;
  if (first !== undefined) (first[1].buffer as ArrayBuffer).transfer(0);
}
