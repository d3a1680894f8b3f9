import { ShimError } from '../error.ts';
import { codePathOf, type OpenCode, openCode } from './code-store.ts';
import type { CompiledCode } from './compiled-code.ts';
import { type OpenEntry, openCacheEntry } from './component-cache.ts';
import type { CacheEntry, EntryContent } from './component-entry.ts';
import type { KeptImage } from './linker/linked-component.ts';
import { makeImageFile } from './linker/mapped-image.ts';
import type { PreparedApp } from './prepared-app.ts';
import type { CheckedFile, SealedFile } from './sealed-file.ts';
import { setV8Flag } from './v8-flags.ts';

/** Bytes of core modules from which on making them takes longer than what is done to save time, or to use it. */
const largeBytes = 2 * 1024 ** 2;

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
  /** What `content` has views of. */
  readonly file: SealedFile;
  start: KeptImage | undefined;
  /** In the order of the entry; undefined until it is compiled. */
  readonly modules: Map<string, WebAssembly.Module | undefined>;
  /** Its kept code, by module. */
  readonly code: OpenCode | undefined;
};

export type OpenModulesOptions = {
  /** Uses the code that is kept. */
  readonly compiledCode?: CompiledCode | undefined;
  /** Sealed files that are not checked again if they still are what they were. */
  readonly checked?: readonly CheckedFile[] | undefined;
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
   * Opens the cache entry of every component and checks that this node's shim wrote it, each once. Throws `data-loss` for an
   * entry that has to be made again.
   */
  static open(prepared: PreparedApp, { compiledCode, checked = [] }: OpenModulesOptions = {}): CoreModules {
    const known = (path: string): CheckedFile | undefined => checked.find((file) => file.path === path);
    const entries = new Map<string, Opened>();
    try {
      for (const { entryPath: path, digest } of prepared.components) {
        if (entries.has(path)) continue;
        const { content, file } = openCacheEntry(path, digest, known(path));
        const code = compiledCode === undefined ? undefined : openCode(path, known(codePathOf(path)));
        entries.set(path, opened(path, content, file, code));
      }
    } catch (thrown) {
      release(entries.values());
      throw thrown;
    }
    return new CoreModules(prepared, entries, compiledCode);
  }

  /** Those of an open entry; `path` names it in errors. */
  static of(path: string, { content, file }: OpenEntry): CoreModules {
    const app = { name: path, variables: [], triggers: [], components: [] };
    return new CoreModules(
      { app, components: [] },
      new Map([[path, opened(path, content, file)]]),
      undefined,
    );
  }

  /** The sealed files that were opened, as far as they can be known by what they are. */
  get checked(): readonly CheckedFile[] {
    return [...this.#entries.values()].flatMap(({ file, code }) =>
      [file.checked, code?.file.checked].flatMap((checked) => (checked === undefined ? [] : [checked])),
    );
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
    this.#validateLazily();
    try {
      await this.#compileRest((opened, name) => (opened.code?.code.get(name)?.length ?? 0) === 0);
    } catch (thrown) {
      release(this.#entries.values());
      throw thrown;
    }
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
    for (const opened of this.#entries.values()) opened.start = keptImageOf(opened);
    release(this.#entries.values());
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
      const kept = code.code.get(name);
      if (kept !== undefined && kept.length > 0)
        modules.set(name, this.#compiledCode?.moduleWith(bytes, kept));
    }
    return content.coreModules.every(([name]) => modules.get(name) !== undefined);
  }

  /** Whether making them takes long, 10 ms and more. */
  get areLarge(): boolean {
    const lengths = [...this.#entries.values()].flatMap(({ content }) =>
      content.coreModules.map(([, { length }]) => length),
    );
    return lengths.reduce((sum, length) => sum + length, 0) >= largeBytes;
  }

  /**
   * Has functions validated when they are first called: all of them were when the entry was made, and its seal says that it is
   * the same (13 MB: 47 ms less). Not while code is learned, which V8 would take only with that flag; nor where any is kept, for
   * the same reason.
   */
  #validateLazily(): void {
    if (this.#compiledCode === undefined || !this.areLarge) return;
    if ([...this.#entries.values()].every(({ code }) => code === undefined))
      setV8Flag('--wasm-lazy-validation');
  }

  async #compileRest(wanted: (opened: Opened, name: string) => boolean): Promise<void> {
    const compiling: Promise<void>[] = [];
    for (const opened of this.#entries.values())
      for (const [name, bytes] of opened.content.coreModules)
        if (opened.modules.get(name) === undefined && wanted(opened, name))
          compiling.push(
            compile(opened.path, name, bytes).then((module) => void opened.modules.set(name, module)),
          );
    // All of them, so that nothing reads of an entry any more when one has failed.
    const failed = (await Promise.allSettled(compiling)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }
}

function opened(path: string, content: EntryContent, file: SealedFile, code?: OpenCode): Opened {
  const modules = new Map(content.coreModules.map(([name]) => [name, undefined]));
  return { path, content, file, start: undefined, modules, code };
}

async function compile(path: string, name: string, bytes: Uint8Array): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw new ShimError('data-loss', `"${path}" is not used: "${name}" does not compile`, { cause: error });
  }
}

/**
 * The image in a file that all workers map: the entry itself, which all engines of the node share, or one in memory where
 * the entry may have changed since it was checked, or where the rights that are left do not let this process map it.
 */
function keptImageOf({ content: { start }, file }: Opened): KeptImage | undefined {
  if (start === undefined) return undefined;
  const { image, bytes } = start;
  if (file.checked !== undefined && file.isMappable())
    return { image, fd: file.takeDescriptor(), at: file.placeOf(bytes) };
  const fd = makeImageFile(bytes.length, [{ offset: 0, bytes }]);
  return fd === undefined ? { image, bytes: Uint8Array.from(bytes) } : { image, fd, at: 0 };
}

/** Gives the bytes of entries back, of which V8 has a copy. */
function release(entries: Iterable<Opened>): void {
  for (const { file, code } of entries) {
    file.release();
    code?.file.release();
  }
}
